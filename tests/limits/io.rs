//! Limits of block devices: as the kernel's files say them, and as it counts.

use std::path::Path;

use orangery_runtime::cgroup::{BlockDevice, IoMax, Limits};
use orangery_runtime::spec::{Enforcement, UserNamespace};
use orangery_runtime::{ErrorKind, ProcessSpec};
use orangery_tests::block::{Loop, most_of_any, writes_are_held_up};
use orangery_tests::host::{outcome, probe};
use orangery_tests::{Scene, Trial, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial!(what_is_asked_of_a_device_is_in_the_kernels_files, Io),
        trial!(a_device_that_is_not_there, Io),
        trial!(writes_wait_for_their_turn, Root, Io, Loop),
    ]
}

/// What the files of the container's own groups, or of groups below it, have for this device.
fn rates(scene: &Scene, device: &BlockDevice) -> Vec<String> {
    let device = format!("{device} ");
    let files = ["io.max", "blkio.throttle.write_bps_device", "blkio.throttle.read_iops_device"];
    let read = |dir: &Path| files.map(|file| std::fs::read_to_string(dir.join(file)).unwrap_or_default());
    let texts = scene.cgroups().into_iter().flat_map(|dir| read(&dir));
    let mut words: Vec<String> = texts
        .flat_map(|text| {
            text.lines().filter_map(|line| line.strip_prefix(&*device)).map(str::to_owned).collect::<Vec<_>>()
        })
        .flat_map(|line| {
            line.split(' ').map(|word| word.rsplit('=').next().unwrap_or(word).to_owned()).collect::<Vec<_>>()
        })
        .filter(|word| word != "max")
        .collect();
    words.sort();
    words
}

fn what_is_asked_of_a_device_is_in_the_kernels_files(scene: &Scene) {
    scene.play(async |host| {
        let most = most_of_any();
        let device = &most.device;
        let mut spec = host.spec("io");
        spec.limits.io_max = vec![most.clone()];
        let container = host.create(spec, probe(&["wait"])).await.expect("created");
        let _started = container.start().await.expect("started");
        assert_eq!(rates(scene, device), ["10485760", "500"]);
        let less = IoMax { read_iops: Some(u64::MAX), write_bps: Some(4096), ..most.clone() };
        container.update(Limits { io_max: vec![less], ..Limits::default() }).expect("updated");
        assert_eq!(rates(scene, device), ["4096"]);
        let mut further = probe(&["true"]);
        further.limits.io_max = vec![IoMax { write_bps: Some(2048), ..IoMax::new(device.clone()) }];
        let further = container.exec(further).await.expect("exec");
        assert_eq!(rates(scene, device), ["2048", "4096"], "its own, below the container's");
        assert_eq!(outcome(further).await.code(), 0);
        let stats = container.stats();
        let counted = [stats.io_read_bytes, stats.io_write_bytes, stats.io_read_ops, stats.io_write_ops];
        assert!(counted.iter().all(Option::is_some), "{stats:?}");
        // One that is refused changes nothing.
        let none = IoMax { write_bps: Some(9999), ..IoMax::new(Path::new("/no/such")) };
        let both = vec![IoMax { write_bps: Some(9999), ..IoMax::new(device.clone()) }, none];
        let error = container.update(Limits { io_max: both, ..Limits::default() }).expect_err("no such device");
        assert_eq!(
            (error.kind(), error.field()),
            (ErrorKind::Unsupported, Some("limits.io_max[/no/such]")),
            "{error:?}"
        );
        container.finish().await;
        container.delete().await.expect("deleted");
    });
}

fn a_device_that_is_not_there(scene: &Scene) {
    scene.play(async |host| {
        let most = most_of_any();
        let mut spec = host.spec("io");
        for none in ["/no/such", "/dev/null", "/proc"] {
            spec.limits.io_max = vec![IoMax { write_bps: Some(9999), ..IoMax::new(Path::new(none)) }];
            let errors = host.refused(spec.clone(), probe(&["true"])).await;
            let field = format!("limits.io_max[{none}]");
            let told: Vec<_> = errors.0.iter().map(|error| (error.kind(), error.field())).collect();
            assert_eq!(told, [(ErrorKind::Unsupported, Some(&*field))], "{errors:?}");
        }
        // The others hold.
        spec.limits.io_max.push(most.clone());
        spec.enforcement = Enforcement::BestEffort;
        let container = host.create(spec, probe(&["true"])).await.expect("created");
        let unmet: Vec<String> = container.unmet().into_iter().map(|unmet| unmet.limit).collect();
        assert_eq!(unmet, ["io_max[/proc]"]);
        assert_eq!(rates(scene, &most.device), ["10485760", "500"]);
        outcome(container.start().await.expect("started")).await;
        container.delete().await.expect("deleted");
    });
}

fn writes_wait_for_their_turn(scene: &Scene) {
    let device = Loop::new(scene.dir()).expect("a loop device");
    scene.play(async |host| {
        writes_are_held_up(&host.rt, device.path(), &|id, script| {
            let (mut spec, mut main) = (host.spec(id), ProcessSpec::default());
            // Whose node it is may write to it.
            spec.user_namespace = UserNamespace::Host;
            main.argv = ["sh", "-c", script].map(Into::into).into();
            (spec, main)
        })
        .await;
    });
}
