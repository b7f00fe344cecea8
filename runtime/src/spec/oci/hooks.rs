//! The hooks of a bundle.

use oci_spec::runtime as oci;

use super::Refusals;
use crate::spec::{Hook, HookKind, Hooks};

/// A `startContainer` hook that says nothing of an environment has `inside`, that of the container's command.
pub(super) fn convert(no: &mut Refusals, hooks: &oci::Hooks, inside: &[String]) -> Hooks {
    let mut list = |kind: HookKind, hooks: &Option<Vec<oci::Hook>>| {
        let all = hooks.iter().flatten().enumerate();
        let env = if kind == HookKind::StartContainer { inside } else { &[] };
        all.map(|(index, hook)| one(no, &format!("hooks.{}[{index}]", kind.name()), hook, env)).collect()
    };
    let prestart = list(HookKind::Prestart, hooks.prestart());
    Hooks {
        prestart,
        create_runtime: list(HookKind::CreateRuntime, hooks.create_runtime()),
        create_container: list(HookKind::CreateContainer, hooks.create_container()),
        start_container: list(HookKind::StartContainer, hooks.start_container()),
        poststart: list(HookKind::Poststart, hooks.poststart()),
        poststop: list(HookKind::Poststop, hooks.poststop()),
    }
}

fn one(no: &mut Refusals, field: &str, hook: &oci::Hook, unsaid: &[String]) -> Hook {
    let nul = |text: &str| text.contains('\0');
    let args = hook.args().clone().unwrap_or_default();
    let env = hook.env().clone().or_else(|| (!unsaid.is_empty()).then(|| unsaid.to_vec()));
    if !hook.path().is_absolute() || hook.path().to_str().is_none_or(nul) {
        no.add(&format!("{field}.path"), format!("{} is no absolute path", hook.path().display()));
    }
    for (name, list) in [("args", Some(&args)), ("env", env.as_ref())] {
        if list.into_iter().flatten().any(|text| nul(text)) {
            no.add(&format!("{field}.{name}"), "it has a NUL in it");
        }
    }
    // As in the environment of a process.
    for (index, _) in env.iter().flatten().enumerate().filter(|(_, entry)| !entry.contains('=')) {
        no.add(&format!("{field}.env[{index}]"), "it is not KEY=VALUE");
    }
    let timeout = hook.timeout().map_or(Some(0), |asked| u32::try_from(asked).ok().filter(|seconds| *seconds > 0));
    if timeout.is_none() {
        no.add(&format!("{field}.timeout"), "it is a number of seconds above 0");
    }
    Hook { path: hook.path().clone(), args, env, timeout: timeout.unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> (Hooks, Vec<String>) {
        let mut no = Refusals(Vec::new());
        let hooks = convert(&mut no, &serde_json::from_str(json).unwrap(), &["IN=side".into()]);
        (hooks, no.0.iter().filter_map(|error| error.field().map(str::to_owned)).collect())
    }

    #[test]
    fn each_list_is_its_own_and_in_order() {
        let (hooks, wrong) =
            of(r#"{"prestart":[{"path":"/a"},{"path":"/b","args":["b","c"],"env":["K=V"],"timeout":3}],
            "createRuntime":[{"path":"/r"}],"createContainer":[{"path":"/c"}],"startContainer":[{"path":"/s"}],
            "poststart":[{"path":"/p"}],"poststop":[{"path":"/e"}]}"#);
        assert!(wrong.is_empty() && hooks.hold_up() && !hooks.is_empty());
        let b =
            Hook { path: "/b".into(), args: vec!["b".into(), "c".into()], env: Some(vec!["K=V".into()]), timeout: 3 };
        assert_eq!(hooks.of(HookKind::Prestart), [Hook { path: "/a".into(), ..Hook::default() }, b]);
        let one = |kind| hooks.of(kind)[0].path.to_str().unwrap();
        use HookKind::{CreateContainer, CreateRuntime, Poststart, Poststop, StartContainer};
        let all = [CreateRuntime, CreateContainer, StartContainer, Poststart, Poststop].map(one);
        assert_eq!(all, ["/r", "/c", "/s", "/p", "/e"]);
    }

    #[test]
    fn a_start_hook_without_an_environment_has_the_commands() {
        let (hooks, _) = of(r#"{"prestart":[{"path":"/a"}],"createContainer":[{"path":"/a"}],
            "startContainer":[{"path":"/a"},{"path":"/a","env":["K=V"]},{"path":"/a","env":[]}],"poststop":[{"path":"/a"}]}"#);
        let env =
            |kind| hooks.of(kind).iter().map(|hook| hook.env.as_ref().map(|env| env.join(" "))).collect::<Vec<_>>();
        assert_eq!(env(HookKind::StartContainer), ["IN=side", "K=V", ""].map(|env| Some(env.to_owned())));
        for kind in [HookKind::Prestart, HookKind::CreateContainer, HookKind::Poststop] {
            assert_eq!(env(kind), [None]);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let (_, wrong) = of(r#"{"poststop":[{"path":"a"},{"path":"/a","timeout":0},{"path":"/a","timeout":-1},
            {"path":"/a","args":["\u0000"],"env":["K=\u0000"]},{"path":"/a","env":["K=V","KEY"]}]}"#);
        let all = ["[0].path", "[1].timeout", "[2].timeout", "[3].args", "[3].env", "[4].env[1]"];
        assert_eq!(wrong, all.map(|rest| format!("hooks.poststop{rest}")));
    }
}
