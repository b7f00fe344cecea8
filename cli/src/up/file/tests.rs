use super::*;
use crate::errors::Mistake;

fn text(text: &str) -> Text {
    Text::new("up.toml", text.as_bytes().to_vec()).unwrap()
}

fn wrong(file: &str) -> Vec<Mistake> {
    let text = text(file);
    let refusals = read(&text).map(drop).expect_err("it is right");
    refusals.into_iter().map(|refusal| refusal.place(&text)).collect()
}

/// `file` has one mistake, marked as this is: `key = «value»`.
#[track_caller]
fn marked(file: &str, field: &str, what: &str, hint: &str) {
    let start = file.find('«').unwrap();
    let file = file.replacen('«', "", 1);
    let end = file.find('»').unwrap();
    let text = text(&file.replacen('»', "", 1));
    let refusals = read(&text).map(drop).expect_err("it is right");
    let [refusal] = refusals.as_slice() else { panic!("{refusals:?}") };
    assert_eq!((refusal.span.clone(), refusal.field.as_str()), (start..end, field), "{refusal:?}");
    let said = refusal.hint.as_deref().unwrap_or_default();
    assert!(refusal.what.contains(what) && said.contains(hint), "{refusal:?}");
}

const REST: &str = "[service.a]\ncommand = [\"a\"]\n";

#[test]
fn what_is_right() {
    let file = r#"
        name = "shop"
        strategy = "rest-for-one"
        restart = "on-failure:3"
        restart-delay = 2.5
        [service.db]
        command = ["./db", "--port=1"]
        memory = 67108864
        cpus = 0.5
        env = { B = "x=y", A = 0x10 }
        on-exit = { 125 = "permanent", "limit:wall" = "force" }
        restart = "always"
        [group.workers]
        after = ["db"]
        [group.workers.service.one]
        bundle = "b"
        host-opt = false
        [service.api]
        command = ["api"]
        after = ["workers", "db"]
        mount = ["type=tmpfs,dst=/x"]
        log = "logs"
    "#;
    let File { said, members } = read(&text(file)).unwrap();
    let restart = orangery::Restart::on_failure().at_most(3);
    let second = std::time::Duration::from_secs;
    assert_eq!(said.own.restart.policy(), restart.back_off(second(5) / 2, 2, second(60)));
    let names: Vec<_> = members.iter().map(|member| member.name.as_str()).collect();
    assert_eq!(names, ["db", "workers", "api"], "in the order of the file");
    let MemberKind::Service(db) = &members[0].kind else { panic!("{members:?}") };
    let work = &db.said.work;
    assert_eq!((work.limits.memory, db.said.command.len()), (Some(64 << 20), 2));
    assert_eq!(work.program.env, ["B=x=y", "A=16"]);
    assert!(work.restart.restart(&work.exits).is_some());
}

#[test]
fn each_mistake_is_told_at_its_place() {
    for (key, what, hint) in [
        ("memory = «\"64Q\"»", "\"64Q\" is not a size", ""),
        ("memory = «true»", "takes one value", "memory = \"SIZE\""),
        ("memory = «1979-05-27»", "a date cannot", ""),
        ("hostname = «5»", "a number cannot be here", "hostname = "),
        ("timeout = «\"soon\"»", "\"soon\" is not a duration", ""),
        ("timeout = «[\"1s\"]»", "a list cannot be here", "timeout = \"TIME\""),
        ("host-opt = «\"yes\"»", "true or false", "host-opt = true"),
        ("network = «\"most\"»", "\"most\" is not possible", "none, pasta, host"),
        ("restart = «\"sometimes\"»", "no restart policy", ""),
        ("mount = [«\"type=bind,dst=/x\"»]", "src is missing", ""),
        ("env = { «\"a=b\"» = \"c\" }", "is no name", ""),
        ("env = { A = «[]» }", "a list cannot be here", "NAME"),
        ("label = [«\"x\"»]", "no label", ""),
        ("rlimit = { nothing = «1» }", "nothing", ""),
        ("after = [«\"b\"»]", "called \"b\"", ""),
        ("restart-delay = «\"1s\"»", "needs restart", ""),
        ("restart = \"always\"\non-exit = { 1 = «\"maybe\"» }", "means nothing", ""),
        ("ready-tcp = «\"localhost:80\"»", "is nowhere", ""),
        ("ready-tcp = «0»", "is nowhere", ""),
        ("ready-http = «\"8080\"»", "is no page", ""),
        ("watchdog = «0»", "in no time", ""),
        ("ready-line = «\"\"»", "every line", ""),
        ("ready-after = 1\nready-timeout = «0»", "in no time", ""),
        ("health-tcp = 80\nhealth-failures = «0»", "", ""),
        (
            "ready-timeout = «5»",
            "needs ready-exec or ready-tcp or ready-http or ready-notify or ready-fd or ready-line",
            "",
        ),
        ("ready-after = «1»\nready-tcp = 80", "cannot be used with ready-tcp", ""),
        ("health-tcp = 80\non-unhealthy = «\"panic\"»", "not possible", "report, restart, stop"),
        ("stop = «\"TERM\"»", "no signal with its time", ""),
        ("pre-stop-deadline = «5»", "needs pre-stop beside it", ""),
        ("«memroy» = 5", "no such key", "memory"),
        ("«tty» = true", "no such key", ""),
        ("«zzzz» = 5", "no such key", "orangery schema"),
    ] {
        let line = key.lines().find(|line| line.contains('«')).unwrap();
        let name = line.trim_start_matches('«').split([' ', '»']).next().unwrap();
        marked(&format!("{REST}{key}\n"), &format!("service.a.{name}"), what, hint);
    }
    marked("«nmae» = \"x\"\n[service.a]\ncommand = [\"a\"]", "nmae", "no such key", "name");
    marked("name = «\"a b\"»\n[service.a]\ncommand = [\"a\"]", "name", "no name", "A-Z");
    marked("[service.«\"a.b\"»]\ncommand = [\"a\"]", "service.a.b", "no name", "A-Z");
    marked("service = «5»", "service", "write [service.NAME]", "");
    marked("[service]\na = «5»", "service.a", "a service is a table", "");
    marked("[service.«a»]\n", "service.a", "command is missing", "command = [");
    marked("«»", "", "no service", "[service.NAME]");
    marked("[group.«g»]\n[service.a]\ncommand = [\"a\"]", "group.g", "no service", "[service.NAME]");
    marked("[service.a]\ncommand = [\"a\"]\n[service.a.«service»]", "service.a.service", "no such key", "");
}

#[test]
fn names_and_circles() {
    marked("[service.a]\ncommand=[\"a\"]\n[group.«a».service.b]\ncommand=[\"b\"]", "group.a", "see line 1", "");
    let circle = "[service.a]\ncommand=[\"x\"]\nafter = [«\"b\"»]\n[service.b]\ncommand=[\"x\"]\nafter = [\"c\"]\n\
                  [service.c]\ncommand=[\"x\"]\nafter=[\"a\"]\n[service.d]\ncommand=[\"x\"]\nafter=[\"a\"]";
    marked(circle, "service.a.after", "a waits for b (line 3), b waits for c (line 6), c waits for a (line 9)", "");
    marked("[service.a]\ncommand=[\"x\"]\nafter = [«\"a\"»]", "service.a.after", "a waits for a (line 3)", "");
    // Names of another group are none of this one.
    marked(
        "[service.a]\ncommand=[\"x\"]\n[group.g.service.b]\ncommand=[\"x\"]\nafter=[«\"a\"»]",
        "group.g.service.b.after",
        "called \"a\"",
        "",
    );
    let two = "[service.a]\ncommand=[\"x\"]\nafter=[\"a\"]\n[service.b]\ncommand=[\"x\"]\nafter=[\"b\"]";
    assert_eq!(wrong(two).len(), 2);
}

#[test]
fn all_of_them_at_once() {
    let file = "[service.a]\ncommand = [\"x\"]\nmemory = 1Q\nmemory = \"1M\"\npids = \"many\"\n[service.a]\nx = 1\n[service.b]\nbundle = \"b\"\nrootfs = \"r\"";
    let told: Vec<_> = wrong(file).iter().map(|mistake| (mistake.line, mistake.column)).collect();
    assert_eq!(told, [(3, 10), (4, 1), (5, 8), (6, 10), (7, 1), (9, 10)]);
    let text = wrong(file)[2].text(crate::errors::one_line);
    let shown = "up.toml:5:8: service.a.pids: \"many\" is not a whole number, such as 32\n  5 | pids = \"many\"\n    |        ^^^^^^\n";
    assert_eq!(text, shown);
}

/// A valid file with seeded changes: whatever it is, it is read or refused, with a place in it.
#[test]
fn no_mutant_makes_it_panic() {
    let valid = include_str!("../../../../examples/up.toml");
    assert!(crate::check_up_file(valid).is_ok());
    proptest::test_runner::TestRunner::new(proptest::test_runner::Config::with_cases(1000))
        .run(
            &(0..valid.len(), 0..valid.len(), proptest::collection::vec(proptest::num::u8::ANY, 0..9)),
            |(at, end, new)| {
                let mut bytes = valid.as_bytes().to_vec();
                bytes.splice(at.min(end)..at.max(end).min(at + 40), new);
                let Ok(text) = Text::new("x", bytes) else { return Ok(()) };
                for refusal in read(&text).err().unwrap_or_default() {
                    let mistake = refusal.place(&text);
                    assert!(mistake.line >= 1 && mistake.column >= 1 && !mistake.what.is_empty());
                    assert!(mistake.text(crate::errors::one_line).lines().count() >= 3);
                }
                Ok(())
            },
        )
        .unwrap();
}
