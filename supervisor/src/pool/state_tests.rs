use proptest::prelude::*;

use super::*;

const SIZES: Sizes = Sizes { idle: 2, most: 6, waiting: 2 };

const INPUTS: [Input; 15] = [
    Input::Take { waits: true },
    Input::Take { waits: false },
    Input::Left,
    Input::Made,
    Input::Failed { hopeless: false },
    Input::Failed { hopeless: true },
    Input::Lost { young: false },
    Input::Lost { young: true },
    Input::Stable,
    Input::Returned,
    Input::Released,
    Input::Gone,
    Input::DelayOver,
    Input::Close,
    Input::Made,
];

fn tally(state: PoolState, making: usize, idle: usize, leased: usize, leaving: usize, waiting: usize) -> Tally {
    Tally { state, making, idle, leased, leaving, waiting, ..Tally::default() }
}

/// What came of it in a few letters: the state, then making/idle/leased/leaving/waiting, then the effect.
fn cell(before: Tally, input: Input) -> String {
    let (now, effect, make) = next(before, input, &SIZES);
    let state = match now.state {
        PoolState::Open => "O",
        PoolState::BackOff => "B",
        PoolState::Closed => "C",
    };
    let effect = match effect {
        Effect::Lease => "lease",
        Effect::Queue => "queue",
        Effect::Keep => "keep",
        Effect::Discard { wait: None } => "discard",
        Effect::Discard { wait: Some(_) } => "discard,wait",
        Effect::Fail { wait: None, .. } => "fail",
        Effect::Fail { wait: Some(_), .. } => "fail,wait",
        Effect::Close => "close",
        Effect::Count => "count",
        Effect::Ignore(_) => "-",
        Effect::Refuse(_) => "!",
    };
    let Tally { making, idle, leased, leaving, waiting, .. } = now;
    format!("{state}{making}{idle}{leased}{leaving}{waiting} {effect} +{make}")
}

/// All pairs: a column for each situation, a row for each input.
#[test]
fn the_table() {
    let situations = [
        tally(PoolState::Open, 0, 2, 1, 1, 0),
        tally(PoolState::Open, 2, 0, 1, 0, 1),
        tally(PoolState::BackOff, 1, 0, 2, 0, 1),
        tally(PoolState::Closed, 1, 0, 1, 1, 0),
    ];
    let rows = [
        "O11210 lease +1 | O40102 queue +2 | B10202 queue +0 | C10110 ! +0",
        "O11210 lease +1 | O30101 ! +1 | B10201 ! +0 | C10110 ! +0",
        "O02110 - +0 | O20100 count +0 | B10200 count +0 | C10110 - +0",
        "O02110 - +0 | O20200 lease +1 | B00300 lease +0 | C00120 discard +0",
        "O02110 - +0 | B10100 fail,wait +0 | B00200 fail +0 | C00110 count +0",
        "O02110 - +0 | B10100 fail,wait +0 | B00200 fail +0 | C00110 count +0",
        "O11120 discard +1 | O30101 - +1 | B10201 - +0 | C10110 - +0",
        "B01120 discard,wait +0 | O30101 - +1 | B10201 - +0 | C10110 - +0",
        "O02110 count +0 | O30101 - +1 | B10201 - +0 | C10110 - +0",
        "O03010 keep +0 | O20100 lease +0 | B10200 lease +0 | C10020 discard +0",
        "O02020 discard +0 | O30011 discard +1 | B10111 discard +0 | C10020 discard +0",
        "O02100 count +0 | O30101 - +1 | B10201 - +0 | C10100 count +0",
        "O02110 - +0 | O30101 - +1 | O30201 count +2 | C10110 - +0",
        "C00130 close +0 | C20100 close +0 | C10200 close +0 | C10110 - +0",
    ];
    for (input, row) in INPUTS.into_iter().zip(rows) {
        let told: Vec<_> = situations.iter().map(|situation| cell(*situation, input)).collect();
        assert_eq!(told.join(" | "), row, "{input:?}");
    }
}

#[test]
fn delays_double_from_the_second_failure_on_up_to_the_longest() {
    let after = |failures| Tally { failures, ..Tally::default() }.delay();
    assert_eq!([1, 2, 3, 4].map(after).map(|delay| delay.as_millis()), [0, 100, 200, 400]);
    assert_eq!((after(20), after(u32::MAX >> 1)), (LONGEST, LONGEST));
    assert_eq!(Tally { failures: 1, crashes: 1, ..Tally::default() }.delay(), SHORTEST);
}

proptest! {
    /// Whatever happens: no budget is exceeded, nobody waits while one is ready, what is missing is made, a closed pool
    /// makes nothing, and nothing comes from nowhere.
    #[test]
    fn the_invariants(
        inputs in prop::collection::vec(0..INPUTS.len(), 0..200),
        (idle, most, waiting) in (0usize..6, 1usize..12, 0usize..5),
    ) {
        let sizes = Sizes { idle: idle.min(most), most, waiting };
        let mut now = Tally::default();
        now.making = now.missing(&sizes);
        for input in inputs {
            let input = INPUTS[input];
            let before = now;
            let (after, effect, make) = next(before, input, &sizes);
            now = after;
            prop_assert!(now.all() <= sizes.most && now.waiting <= sizes.waiting);
            prop_assert!(now.idle == 0 || now.waiting == 0);
            if now.state == PoolState::Closed {
                prop_assert_eq!((now.idle, now.waiting, make), (0, 0, 0));
            }
            prop_assert!(before.state != PoolState::Closed || now.state == PoolState::Closed);
            // Nothing is missing unless it must not be made.
            prop_assert_eq!(now.missing(&sizes), 0);
            let ended = matches!(input, Input::Failed { .. }) && before.making > 0
                || input == Input::Gone && before.leaving > 0;
            prop_assert_eq!(now.all() + usize::from(ended), before.all() + make);
            prop_assert!(!matches!(effect, Effect::Lease) || now.leased == before.leased + usize::from(input != Input::Returned));
            prop_assert!(!matches!(effect, Effect::Ignore(_) | Effect::Refuse(_)) || make == 0 || before.missing(&sizes) > 0);
        }
    }
}
