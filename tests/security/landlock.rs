//! Rules of landlock: what permissions allow and rules do not is refused, to children and further processes too.

use std::os::unix::fs::symlink;

use orangery_runtime::doctor;
use orangery_runtime::spec::{Access, Landlock, PathAccess, PathRule};
use orangery_tests::host::{command, outcome, probe};
use orangery_tests::{Host, Scene};

use crate::imaged;

/// Why rules of this version cannot be tried here.
pub(crate) fn lacks(abi: u32) -> Option<&'static str> {
    (doctor::landlock() < abi).then_some("needs a kernel with a later landlock")
}

fn rules(words: &str) -> Option<Landlock> {
    Some(words.parse().expect("rules"))
}

/// What a shell says, as the main process and as a further one, each with these rules.
async fn both(host: &Host, words: &str, script: &str) -> [(String, String); 2] {
    let mut sleeps = command(&["sleep", "1000"]);
    sleeps.landlock = rules("ro:/");
    let container = host.create(host.spec("further"), sleeps).await.expect("created");
    container.start().await.expect("started");
    let mut shell = command(&["sh", "-c", script]);
    shell.landlock = rules(words);
    let further = outcome(container.exec(shell.clone()).await.expect("exec")).await;
    container.delete().await.expect("deleted");
    let main = host.once(host.spec("main"), shell).await;
    [main, further].map(|outcome| (outcome.out, outcome.err))
}

/// What is tried where nothing but /tmp may be changed, by itself and then with what is there already. All of it is in the first
/// version of these rules: a cut is refused as a write, and a move into another directory as the new name there, by whichever way
/// mv goes.
const NEW: [(&str, &str); 4] = [
    ("a child of a child", "sh -c \"echo x > /run/a\""),
    ("a directory", "mkdir /run/b"),
    ("a file", "true > /var/c"),
    ("a move", "mv /tmp/here /run/there"),
];
const OLD: [(&str, &str); 4] = [
    ("a write", "echo x >> /run/file"),
    ("a cut", "true > /run/file"),
    ("a removal of a file", "rm -f /run/file"),
    ("a removal of a directory", "rmdir /run/directory"),
];

/// Each in a shell of its own, which ends when something cannot be opened.
fn tried(what: &[(&str, &str)]) -> String {
    let one = |(name, script): &(&str, &str)| {
        format!("case $(sh -c '{script}' 2>&1) in *'Permission denied') echo {name};; *) echo not {name};; esac\n")
    };
    what.iter().map(one).collect()
}

fn names(what: &[(&str, &str)]) -> String {
    what.iter().map(|(name, _)| format!("{name}\n")).collect()
}

pub(crate) fn what_permissions_allow_and_rules_do_not(scene: &Scene) {
    let (words, set_up) = ("ro:/,rw:/tmp,write:/dev/null", "touch /run/file && mkdir /run/directory");
    let allowed = "echo mine > /tmp/a && cat /tmp/a && rm /tmp/a; echo kept > /dev/null; cat /etc/passwd > /dev/null && echo read";
    let script = format!("touch /tmp/here\n{}{allowed}", tried(&NEW));
    let said = names(&NEW) + "mine\nread\n";
    scene.play(async |host| {
        for (out, told) in both(host, words, &script).await {
            assert_eq!((out, told), (said.clone(), String::new()));
        }
        // Made by one without rules.
        let container = host.create(host.spec("old"), command(&["sleep", "1000"])).await.expect("created");
        container.start().await.expect("started");
        let free = outcome(container.exec(command(&["sh", "-c", set_up])).await.expect("exec")).await;
        assert_eq!((free.code(), free.err), (0, String::new()));
        let script = tried(&OLD);
        let mut shell = command(&["sh", "-c", &script]);
        shell.landlock = rules(words);
        let ruled = outcome(container.exec(shell).await.expect("exec")).await;
        assert_eq!((ruled.out, ruled.err), (names(&OLD), String::new()));
        let free = outcome(container.exec(command(&["sh", "-c", &script])).await.expect("exec")).await;
        let nothing: String = OLD.iter().map(|(name, _)| format!("not {name}\n")).collect();
        assert_eq!((free.out, free.err), (nothing, String::new()));
        container.delete().await.expect("deleted");
        // Without rules all of it is allowed.
        let outcome =
            host.once(host.spec("free"), command(&["sh", "-c", "echo x > /run/a && mkdir /run/b && : > /var/c"])).await;
        assert_eq!((outcome.code(), outcome.err), (0, String::new()));
    });
}

pub(crate) fn what_is_not_named_cannot_be_read_or_executed(scene: &Scene) {
    scene.play(async |host| {
        let libraries = "ro:/usr,ro:/bin,ro:/lib,read:/etc/ld.so.cache";
        let mut words = libraries.to_owned();
        if std::path::Path::new("/lib64").exists() {
            words += ",ro:/lib64";
        }
        for (said, told) in both(host, &words, "cat /etc/passwd; ls /tmp; ls /usr > /dev/null; echo end").await {
            assert_eq!(said, "end\n");
            assert!(told.contains("/etc/passwd") && told.contains("/tmp") && told.contains("/dev/null"), "{told}");
        }
        // A program that may be read and not executed: told as the exec's failure, from inside.
        let mut main = command(&["true"]);
        main.landlock = rules("read:/");
        let container = host.create(host.spec("program"), main).await;
        let refused = match container {
            Ok(container) => {
                let refused = container.start().await.err().map(|error| error.to_string());
                container.delete().await.expect("deleted");
                refused
            }
            Err(errors) => Some(errors.to_string()),
        };
        assert!(refused.as_deref().is_some_and(|why| why.contains("ermission denied")), "{refused:?}");
    });
}

pub(crate) fn ports_that_are_not_named_are_refused(scene: &Scene) {
    let script = "exec 3<>/dev/tcp/127.0.0.1/9; exec 4<>/dev/tcp/127.0.0.1/10";
    scene.play(async |host| {
        let mut shell = command(&["bash", "-c", script]);
        shell.landlock = rules("connect:9");
        let told = host.once(host.spec("ports"), shell).await.err;
        let lines: Vec<&str> = told.lines().filter(|line| line.contains("connect: ")).collect();
        assert!(lines.len() == 2, "{told}");
        assert!(lines[0].contains("refused") && lines[1].contains("denied"), "{told}");
    });
}

/// The stub is outside of the domain, though it has the same user.
pub(crate) fn signals_do_not_leave_their_scope(scene: &Scene) {
    scene.play(async |host| {
        let script = "sleep 1000 & kill $! && echo mine; kill -0 1 || echo not";
        for (said, told) in both(host, "scope:signals", script).await {
            assert_eq!(said, "mine\nnot\n", "{told}");
        }
        let outcome = host.once(host.spec("free"), command(&["sh", "-c", "kill -0 1"])).await;
        assert_eq!(outcome.code(), 0, "{}", outcome.err);
    });
}

pub(crate) fn rules_are_made_of_what_lies_inside(scene: &Scene) {
    let image = scene.image("image");
    symlink("/etc", image.join("way")).expect("a link");
    symlink("/proc/self/root", image.join("magic")).expect("a link");
    symlink("../../../../../../etc/passwd", image.join("up")).expect("a link");
    scene.play(async |host| {
        let run = async |words: &str, script: &str| {
            let mut main = command(&["/bin/sh", "-c", script]);
            main.landlock = rules(words);
            let outcome = host.once(imaged(host, &image, Access::ReadOnly), main).await;
            (outcome.out, outcome.err)
        };
        let (said, told) =
            run("ro:/bin,read:/way/marker,read:/up", "cat /etc/marker; cat /etc/passwd; cat /etc/group").await;
        assert!(said.starts_with("the imageroot:x:0:0:root:/root:/bin/sh\n") && !said.contains("makers"), "{said}");
        assert!(told.contains("/etc/group") && !told.contains("/etc/marker"), "{told}");
        for (words, errno) in [("ro:/,read:/magic", libc::ELOOP), ("ro:/,read:/nowhere", libc::ENOENT)] {
            let mut main = command(&["/bin/true"]);
            main.landlock = rules(words);
            let container = host.create(imaged(host, &image, Access::ReadOnly), main).await.expect("created");
            let Err(error) = container.start().await else { panic!("{words}: it was started") };
            assert_eq!((error.field(), error.errno()), (Some("landlock"), Some(errno)), "{words}: {error}");
            container.delete().await.expect("deleted");
        }
        let mut main = command(&["/bin/true"]);
        let access = PathAccess { read: true, ..PathAccess::default() };
        let mut optional = Landlock::new().allow("/", "ro");
        optional.paths.push(PathRule { path: "/nowhere".into(), access, optional: true });
        main.landlock = Some(optional);
        assert_eq!(host.once(imaged(host, &image, Access::ReadOnly), main).await.code(), 0);
    });
}

pub(crate) fn rules_that_cannot_be_are_refused_by_field(scene: &Scene) {
    scene.play(async |host| {
        let mut main = probe(&["true"]);
        main.landlock = rules("ro:/");
        main.new_privileges = true;
        assert_eq!(host.refused(host.spec("privileges"), main).await.0[0].field(), Some("landlock"));
        let mut main = probe(&["true"]);
        main.landlock = Some(Landlock::new().allow("relative", "ro").allow("/a/../b", "ro").allow("/x", "nothing"));
        let errors = host.refused(host.spec("paths"), main).await;
        let fields: Vec<_> = errors.0.iter().filter_map(|error| error.field()).collect();
        assert_eq!(fields, ["landlock.paths[0]", "landlock.paths[1]", "landlock.paths[2]"]);
        // Beside descriptors of its own and the fewest that it may have.
        let mut main = command(&["sh", "-c", "ls /proc/self/fd | wc -l"]);
        main.landlock = rules("rw:/");
        main.preserved =
            (0..3).map(|_| std::sync::Arc::new(std::fs::File::open("/dev/null").expect("null").into())).collect();
        main.rlimits = vec!["nofile=8".parse().expect("a limit")];
        let outcome = host.once(host.spec("descriptors"), main).await;
        assert_eq!(outcome.out.trim(), "7", "{}", outcome.err);
    });
}
