//! `orangery setup`: what root does once, so that an ordinary user's sandboxes never need root.

use std::fmt::Write as _;

use nix::unistd::{Uid, User};
use orangery::runtime::cgroup::CgroupError;
use orangery::runtime::cgroup::handed::{Act, HandOver, Step};
use orangery::runtime::ids::subordinate::user::Given;
use serde::Serialize;

use crate::args::SetupArgs;
use crate::commands::say;
use crate::doctor::machine;
use crate::errors::Failure;

/// What was done, and what is left for the administrator.
#[derive(Debug, Serialize)]
struct Done {
    schema: u32,
    user: String,
    uid: u32,
    gid: u32,
    dry_run: bool,
    steps: Vec<Step>,
    /// Ids in /etc/subuid and /etc/subgid; `None`: none that can be used.
    subordinate_ids: Option<u64>,
    /// What is missing, and what gives it.
    advice: Vec<String>,
}

/// Hand over, or take back.
///
/// # Errors
/// Who calls it is not root, there is no such user, the kernel refuses; what was done until then stays, and is told.
pub(crate) fn setup(args: &SetupArgs, json: bool) -> Result<u8, Failure> {
    let user = user(&args.user)?;
    if !args.dry_run && !Uid::effective().is_root() {
        let why = "only root can give away groups".to_owned();
        return Err(Failure::new(why)
            .with_kind("permission")
            .with_hint(format!("sudo orangery setup --user {}", args.user)));
    }
    let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
    let hand_over = HandOver { uid, gid, dry_run: args.dry_run };
    let mut steps = Vec::new();
    let carried_out = carry_out(hand_over, args, &mut steps);
    let (subordinate_ids, advice) = if args.undo { (None, Vec::new()) } else { ids(&user) };
    let dry_run = args.dry_run;
    let done = Done { schema: 1, user: user.name, uid, gid, dry_run, steps, subordinate_ids, advice };
    let text = match json {
        true => serde_json::to_string(&done).map_err(|error| Failure::new(error.to_string()))? + "\n",
        false => done.text(args.undo, carried_out.is_ok()),
    };
    say(text.as_bytes())?;
    carried_out.map(|()| 0).map_err(|error| refused(&error, args))
}

fn carry_out(hand_over: HandOver, args: &SetupArgs, steps: &mut Vec<Step>) -> Result<(), CgroupError> {
    let mut tell = |step: &Step| steps.push(step.clone());
    if args.undo {
        return hand_over.take_back(tell);
    }
    hand_over.give(&mut tell)?;
    match args.enter {
        // What would be entered is not there yet.
        Some(_) if hand_over.dry_run => Ok(()),
        Some(pid) => hand_over.enter(pid, tell),
        None => Ok(()),
    }
}

fn user(name: &str) -> Result<User, Failure> {
    let found = match name.parse() {
        Ok(uid) => User::from_uid(Uid::from_raw(uid)),
        Err(_) => User::from_name(name),
    };
    let user = found
        .map_err(|error| Failure::system("cannot look the user up", &error.into()).with_option("--user"))?
        .ok_or_else(|| Failure::refused("--user", format!("there is no user {name}")))?;
    if user.uid.is_root() {
        return Err(Failure::refused("--user", "root needs no set-up"));
    }
    Ok(user)
}

/// How many ids the user has beside its own, and what would give it some.
fn ids(user: &User) -> (Option<u64>, Vec<String>) {
    let mut advice = Vec::new();
    let given = match Given::of(user.uid.as_raw(), user.gid.as_raw()) {
        Ok(given) => given,
        Err(error) => {
            advice.push(format!("{}: until then {} has one id in a sandbox", error.what(), user.name));
            None
        }
    };
    match &given {
        None if advice.is_empty() => advice
            .push(format!("no range of user ids: one id in a sandbox; for more: {}", machine::fix_for_ids(&user.name))),
        Some(_) if !machine::maps_ranges() => {
            advice.push(format!("the range needs newuidmap and newgidmap: {}", machine::FIX_FOR_HELPERS));
        }
        _ => {}
    }
    (given.map(|given| given.uids.iter().map(|extent| u64::from(extent.count)).sum()), advice)
}

fn refused(error: &CgroupError, args: &SetupArgs) -> Failure {
    let failure = Failure::new(error.to_string()).with_errno(error.errno());
    if error.is_busy() {
        return failure.with_hint("end what lives there first: that user's sandboxes, or the shell that was moved in");
    }
    if args.enter.is_some() {
        return failure.with_option("--enter");
    }
    failure
}

impl Done {
    /// `whole`: nothing was refused.
    fn text(&self, undo: bool, whole: bool) -> String {
        let mut text = String::new();
        for step in &self.steps {
            let word = match step.act {
                Act::Make => "make",
                Act::Enable => "enable",
                Act::Give => "give",
                Act::Enter => "enter",
                Act::Remove => "remove",
            };
            // Writing to a string cannot fail.
            let _ = match (&step.refused, step.already, self.dry_run) {
                (Some(why), ..) => writeln!(text, "{word:7} {}: not possible: {why}", step.path.display()),
                (None, true, _) if step.act == Act::Remove => {
                    writeln!(text, "{word:7} {}: is not there", step.path.display())
                }
                (None, true, _) => writeln!(text, "{word:7} {}: is so already", step.path.display()),
                (None, false, true) => writeln!(text, "{word:7} {}: would be done", step.path.display()),
                (None, false, false) => writeln!(text, "{word:7} {}", step.path.display()),
            };
        }
        if self.steps.is_empty() && whole {
            text += "no cgroup hierarchy is mounted: nothing to hand over\n";
        }
        if let Some(count) = self.subordinate_ids {
            let _ = writeln!(text, "ids     {} has {count} beside its own", self.user);
        }
        for advice in &self.advice {
            let _ = writeln!(text, "note    {advice}");
        }
        if whole && !undo && !self.dry_run {
            let _ = writeln!(
                text,
                "{} needs no root from now on; `orangery doctor`, run as {}, says what it has.",
                self.user, self.user
            );
        }
        text
    }
}
