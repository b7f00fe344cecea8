//! A filter that asks, through the library: one call of a main and of a further process, answered from outside.

use orangery::seccomp::{Action, Answer, Arch, Filter, Listener, Rule, syscall_number};
use orangery::{ContainerHandle, ProcessHandle, Seccomp};
use orangery_tests::{Scene, Trial, trial, wait};

use crate::stage::play;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial!(a_call_is_answered_by_whoever_takes_the_listener),
        trial!(with_run_nobody_can_take_it),
        trial!(a_listener_that_nobody_took_goes_with_its_process),
        trial!(new_privileges_are_gained_only_when_asked_for),
    ]
}

fn asking(calls: &[&str]) -> Filter {
    let numbers = calls.iter().filter_map(|name| syscall_number(name));
    let rules = numbers.map(|syscall| Rule { syscall, args: Vec::new(), action: Action::Notify }).collect();
    Filter { default: Action::Allow, rules, arches: vec![Arch::native()] }
}

fn mkdir() -> Filter {
    asking(&["mkdir", "mkdirat"])
}

/// Disk quota exceeded, to the one call that comes.
async fn refuse(mut listener: Listener) {
    let asked = wait::soon("a question", listener.next()).await.expect("heard").expect("a question");
    assert!([syscall_number("mkdir"), syscall_number("mkdirat")].contains(&Some(asked.number)), "{asked:?}");
    assert!(listener.answer(asked.id, Answer::Errno(122)).expect("answered"));
    assert_eq!(wait::soon("its end", listener.next()).await.expect("heard"), None);
}

async fn refused(process: &ProcessHandle) {
    let report = wait::soon("its report", process.wait()).await.expect("a report");
    let said = process.stderr().collect(4096).await.to_vec();
    assert!(report.shell_code() == 1 && said.ends_with(b"Disk quota exceeded\n"), "{report:?}: {said:?}");
    assert!(process.listener().is_none(), "after its end");
}

fn a_call_is_answered_by_whoever_takes_the_listener(scene: &Scene) {
    play(scene, async |supervisor| {
        let main = supervisor.command("mkdir").arg("/tmp/x").seccomp_filter(mkdir()).spawn().await.expect("spawned");
        let listener = main.listener().expect("a listener");
        assert!(main.listener().is_none(), "once");
        refuse(listener).await;
        refused(main.process()).await;

        let idle: ContainerHandle = supervisor.command("sleep").arg("1000").spawn().await.expect("spawned");
        assert!(idle.listener().is_none(), "its filter asks nothing");
        let further = idle.command("mkdir").arg("/tmp/x").seccomp_filter(mkdir()).spawn().await.expect("spawned");
        refuse(further.listener().expect("a listener")).await;
        refused(&further).await;
    });
}

fn with_run_nobody_can_take_it(scene: &Scene) {
    play(scene, async |supervisor| {
        let output = supervisor.command("mkdir").arg("/tmp/x").seccomp_filter(mkdir()).run();
        let output = wait::soon("its end", output).await.expect("run");
        assert!(output.stderr.to_vec().ends_with(b"Function not implemented\n"), "{output:?}");
        let idle = supervisor.command("sleep").arg("1000").spawn().await.expect("spawned");
        let output = wait::soon("its end", idle.command("mkdir").arg("/tmp/x").seccomp_filter(mkdir()).run()).await;
        assert!(output.as_ref().expect("run").stderr.to_vec().ends_with(b"Function not implemented\n"), "{output:?}");
    });
}

/// The scene's stock finds a descriptor that stays.
fn a_listener_that_nobody_took_goes_with_its_process(scene: &Scene) {
    play(scene, async |supervisor| {
        let main = supervisor.command("mkdir").arg("/tmp/x").seccomp_filter(mkdir()).spawn().await.expect("spawned");
        main.kill().expect("killed");
        wait::soon("its report", main.wait()).await.expect("a report");
        assert!(main.listener().is_none());
    });
}

fn new_privileges_are_gained_only_when_asked_for(scene: &Scene) {
    play(scene, async |supervisor| {
        for (may, line) in [(false, "NoNewPrivs:\t1\n"), (true, "NoNewPrivs:\t0\n")] {
            let command = supervisor.command("grep").args(["NoNewPrivs", "/proc/self/status"]).new_privileges(may);
            let output = command.seccomp(Seccomp::Unconfined).run().await.expect("run");
            assert_eq!(output.stdout.to_vec(), line.as_bytes());
        }
        let both = supervisor.command("grep").args(["-E", "NoNewPrivs|Seccomp:", "/proc/self/status"]);
        let output = both.new_privileges(true).run().await.expect("run");
        assert_eq!(output.stdout.to_vec(), b"NoNewPrivs:\t0\nSeccomp:\t2\n", "a filter does not need it");
    });
}
