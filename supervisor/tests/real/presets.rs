//! Presets on the kernel: what each sets is what the command, and a further one, finds inside.

use std::time::Duration;

use orangery::{Cause, LimitKind, Preset, Sandbox};
use orangery_tests::{Scene, Trial, trial};

use crate::stage::play;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial!(a_command_lives_in_each_preset, Memory, Pids, Cpu),
        trial!(strict_takes_away_what_it_says, Memory, Pids, Cpu),
        trial!(a_fork_bomb_ends_where_the_preset_says, Memory, Pids, Cpu),
        trial!(the_caller_has_the_last_word, Memory, Pids, Cpu),
    ]
}

fn a_command_lives_in_each_preset(scene: &Scene) {
    play(scene, async |supervisor| {
        for preset in Preset::ALL {
            let sandbox = Sandbox::builder().preset(preset).build().unwrap();
            let script = "echo x > /tmp/x && cat /tmp/x && ulimit -c";
            let output = supervisor.command("sh").args(["-c", script]).sandbox(&sandbox).run().await.unwrap();
            let said = String::from_utf8_lossy(&output.stdout.to_vec()).into_owned();
            assert_eq!(said, "x\n0\n", "{preset}: {:?}", String::from_utf8_lossy(&output.stderr.to_vec()));
            assert!(output.report.success(), "{preset}: {:?}", output.report.cause);
        }
    });
}

fn strict_takes_away_what_it_says(scene: &Scene) {
    let look = "grep -E '^Cap|^NoNewPrivs' /proc/self/status | cut -f2; ulimit -n; ls -A /sys | wc -l; \
                cat /proc/modules /proc/kallsyms /proc/cmdline 2>/dev/null";
    let nothing = "0000000000000000\n".repeat(5);
    let expected = format!("{nothing}1\n128\n0\n");
    // Bash's own way to a socket; EPERM before anybody could refuse the connection.
    let talk = "exec 3<>/dev/udp/127.0.0.1/9";
    play(scene, async |supervisor| {
        let sandbox = Sandbox::builder().preset(Preset::Strict).build().unwrap();
        let container = supervisor.command("sleep").arg("1000").sandbox(&sandbox).spawn().await.unwrap();
        let main = supervisor.command("sh").args(["-c", look]).sandbox(&sandbox).run().await.unwrap();
        let further = container.command("sh").args(["-c", look]).run().await.unwrap();
        for output in [main, further] {
            let said = String::from_utf8_lossy(&output.stdout.to_vec()).into_owned();
            assert_eq!(said, expected);
        }
        let ordinary = supervisor.command("bash").args(["-c", talk]).run().await.unwrap();
        assert!(ordinary.report.success(), "{:?}", ordinary.stderr.to_vec());
        for output in [
            supervisor.command("bash").args(["-c", talk]).sandbox(&sandbox).run().await.unwrap(),
            container.command("bash").args(["-c", talk]).run().await.unwrap(),
        ] {
            let told = String::from_utf8_lossy(&output.stderr.to_vec()).into_owned();
            assert!(!output.report.success() && told.contains("Operation not permitted"), "{told}");
        }
    });
}

fn a_fork_bomb_ends_where_the_preset_says(scene: &Scene) {
    let bomb = "n=0; while [ $n -lt 200 ]; do sleep 1000 & n=$((n + 1)); done; exit 0";
    play(scene, async |supervisor| {
        let sandbox = Sandbox::builder().preset(Preset::Judge).build().unwrap();
        let output = supervisor.command("sh").args(["-c", bomb]).sandbox(&sandbox).run().await.unwrap();
        assert!(!output.report.success());
        assert!(output.report.cgroup.pids_refused.known().copied().unwrap_or(0) > 0, "{:?}", output.report.cgroup);
    });
}

fn the_caller_has_the_last_word(scene: &Scene) {
    play(scene, async |supervisor| {
        let short = Duration::from_millis(200);
        let sandbox = Sandbox::builder().preset(Preset::Judge).wall(short).build().unwrap();
        let output = supervisor.command("sleep").arg("1000").sandbox(&sandbox).run().await.unwrap();
        assert_eq!(output.report.cause, Cause::Limit(LimitKind::Wall));
    });
}
