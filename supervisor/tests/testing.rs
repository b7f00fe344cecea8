//! The kit for users' tests, in plain tests: eight of them side by side in one process, each with a supervisor of its own.

use std::error::Error;
use std::time::Duration;

use orangery::testing::{self, LineReader};
use orangery::{Event, Pause, State, Stdin, SubscribeOptions, skip_unless};

const SOON: Duration = Duration::from_secs(60);

type Tested = Result<(), Box<dyn Error>>;

/// What each of the eight does.
async fn works_alone(name: &str) -> Tested {
    skip_unless!(Containers, Ok(()));
    let supervisor = testing::supervisor()?;
    let command = supervisor.command("sh").arg("-c").arg("echo I am $0; cat; sleep 1000 & sleep 1000").arg(name);
    let container = command.id("the-same-in-all").stdin(Stdin::Piped).spawn().await?;
    let greeting = testing::wait_line(container.output(), "I am", SOON).await?;
    assert_eq!(greeting.text, format!("I am {name}"));
    let mut stdin = container.process().stdin().ok_or("no standard input")?;
    stdin.write_all_bytes("one\ntwo\n".into()).await?;
    // From a cursor: what was read is not read again.
    let mut lines = LineReader::new(container.resume_from(greeting.cursor, SubscribeOptions::default())?);
    let two = lines.wait_where("that is the second", |line| line == "two", SOON).await?;
    assert_eq!((two.source, lines.cursor()), (orangery::Source::Stdout, two.cursor));
    container.pause_with(Pause::Stop).await?;
    testing::wait_state(&container, State::Paused, SOON).await?;
    assert_eq!(supervisor.list().await?.len(), 1, "of the other seven it sees nothing");
    container.kill()?;
    testing::wait_state(&container, State::Gone, SOON).await?;
    drop((container, stdin, lines));
    Ok(supervisor.finish().await?)
}

macro_rules! side_by_side {
    ($($name:ident)*) => {
        $(
            #[tokio::test]
            async fn $name() -> Tested {
                works_alone(stringify!($name)).await
            }
        )*
    };
}

side_by_side! { first second third fourth fifth sixth seventh eighth }

#[tokio::test]
async fn what_a_test_leaves_is_listed() -> Tested {
    skip_unless!(Containers, Ok(()));
    let supervisor = testing::supervisor()?;
    let (files, _) = supervisor.native().ok_or("a real one")?.places();
    let forgotten = supervisor.command("cat").id("forgotten").stdin(Stdin::Piped).spawn().await?;
    let stdin = forgotten.process().stdin();
    std::fs::write(files.ok_or("a directory")?.join("rest"), "")?;
    forgotten.detach();
    let guard = testing::LeakGuard::new(&supervisor).patience(Duration::from_secs(3));
    let Err(left) = guard.finish().await else { return Err("nothing was found".into()) };
    let has = |what: &str| left.lines().iter().any(|line| line.contains(what));
    assert!(has("container forgotten (Running, process "), "{left}");
    assert!(stdin.is_some() && has("descriptor ") && has("-> pipe:["), "{left}");
    assert_eq!(left.lines().len(), 2, "the keeper removes the rest: {left}");
    drop(stdin);
    Ok(supervisor.finish().await?)
}

#[tokio::test]
async fn a_test_that_has_not_finished_fails_over_what_it_left() -> Tested {
    skip_unless!(Containers, Ok(()));
    let failed = tokio::task::spawn(async {
        let supervisor = testing::supervisor().map_err(|error| error.to_string())?;
        let guard = testing::LeakGuard::new(&supervisor).patience(Duration::from_millis(1));
        let forgotten = supervisor.command("sleep").arg("1000").id("forgotten").spawn().await;
        forgotten.map_err(|error| error.to_string())?.detach();
        drop(guard);
        Ok::<(), String>(())
    });
    let panic = failed.await.err().ok_or("it has not failed")?.into_panic();
    let text = panic.downcast_ref::<String>().ok_or("a text")?;
    assert!(text.starts_with("left behind:\n    container forgotten"), "{text}");
    Ok(())
}

#[tokio::test]
async fn a_line_that_does_not_come_is_told_with_those_that_did() -> Tested {
    skip_unless!(Containers, Ok(()));
    let supervisor = testing::supervisor()?;
    let command =
        supervisor.command("sh").arg("-c").arg("for n in $(seq 30); do echo line $n; done; printf unfinished; cat");
    let container = command.stdin(Stdin::Piped).spawn().await?;
    // All of it is there: what is waited for in vain takes its time, and what comes late does not.
    let mut output = container.output();
    let mut seen = Vec::new();
    while !seen.ends_with(b"unfinished") {
        match tokio::time::timeout(SOON, output.recv()).await? {
            Some(Event::Chunk(chunk)) => seen.extend_from_slice(&chunk.data),
            other => return Err(format!("{other:?} after {seen:?}").into()),
        }
    }
    let mut lines = LineReader::new(container.output());
    let late = lines.wait("never", Duration::from_millis(500)).await.err().ok_or("it came")?;
    assert_eq!((late.last.len(), late.last.first().map(String::as_str)), (21, Some("line 11")));
    assert!(late.to_string().starts_with("no line with \"never\" within 500ms; the last ones were:\n    line 11\n"));
    container.kill()?;
    // What is unfinished is a line at the end.
    assert_eq!(lines.wait("unfin", SOON).await?.text, "unfinished");
    let never = lines.wait("never", SOON).await.err().ok_or("it came")?;
    assert!(never.within.is_none() && never.to_string().contains("the output has ended"), "{never}");
    let gone = testing::wait_state(&container, State::Paused, SOON).await.err().ok_or("it was paused")?;
    assert_eq!((gone.now, gone.within), (State::Gone, None));
    drop(container);
    Ok(supervisor.finish().await?)
}

#[tokio::test]
async fn memory_can_be_limited_where_that_is_not_skipped() -> Tested {
    skip_unless!(Memory, Ok(()));
    let supervisor = testing::supervisor()?;
    let sandbox = orangery::Sandbox::builder().memory(64 << 20).build()?;
    assert!(supervisor.command("true").sandbox(&sandbox).run().await?.report.success());
    Ok(supervisor.finish().await?)
}
