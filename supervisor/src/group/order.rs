//! Who comes after whom. Pure.

use std::collections::BTreeSet;

use orangery_runtime::Error as RuntimeError;

/// What was said of one member.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) name: String,
    /// `None`: the member that was added before it.
    pub(crate) after: Option<Vec<String>>,
}

/// For each member those that it comes after, as indices.
///
/// # Errors
/// All names that are taken twice or mean nobody, or one circle, by its names.
pub(crate) fn resolve(said: &[Said]) -> Result<Vec<Vec<usize>>, Vec<RuntimeError>> {
    let mut errors = Vec::new();
    let mut names = BTreeSet::new();
    let mut after = Vec::new();
    for (index, member) in said.iter().enumerate() {
        let field = format!("members[{index}]");
        if member.name.is_empty() {
            errors.push(RuntimeError::invalid(format!("{field}.name"), "a member needs a name"));
        }
        if !names.insert(member.name.as_str()) {
            let why = format!("two members have the name {:?}", member.name);
            errors.push(RuntimeError::invalid(format!("{field}.name"), why));
        }
        let Some(wanted) = &member.after else {
            after.push(index.checked_sub(1).into_iter().collect());
            continue;
        };
        let mut found = Vec::new();
        for name in wanted {
            match said.iter().position(|other| other.name == *name) {
                Some(other) => found.push(other),
                None => {
                    let why = format!("{:?} comes after {name:?}, and no member has that name", member.name);
                    errors.push(RuntimeError::invalid(format!("{field}.after"), why));
                }
            }
        }
        after.push(found);
    }
    if let Some(circle) = errors.is_empty().then(|| circle(&after)).flatten() {
        let names: Vec<_> = circle.iter().filter_map(|index| Some(said.get(*index)?.name.as_str())).collect();
        let why = format!("each waits for the next: {}", names.join(" -> "));
        errors.push(RuntimeError::invalid("members", why));
    }
    if errors.is_empty() { Ok(after) } else { Err(errors) }
}

/// A way along `after` that comes back to where it began, that member first and last.
fn circle(after: &[Vec<usize>]) -> Option<Vec<usize>> {
    let mut clear = vec![false; after.len()];
    for start in 0..after.len() {
        // The way to here, each with how many of its edges were tried.
        let mut way: Vec<(usize, usize)> = vec![(start, 0)];
        while let Some((here, tried)) = way.last_mut() {
            let Some(next) = after.get(*here).and_then(|edges| edges.get(*tried)).copied() else {
                if let Some(done) = clear.get_mut(*here) {
                    *done = true;
                }
                way.pop();
                continue;
            };
            *tried += 1;
            if let Some(began) = way.iter().position(|(node, _)| *node == next) {
                let circle = way.iter().skip(began).map(|(node, _)| *node);
                return Some(circle.chain([next]).collect());
            }
            if !clear.get(next).copied().unwrap_or(true) {
                way.push((next, 0));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said(members: &[(&str, Option<&[&str]>)]) -> Vec<Said> {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        members.iter().map(|(name, after)| Said { name: (*name).into(), after: after.map(owned) }).collect()
    }

    #[test]
    fn each_comes_after_the_one_before_unless_it_says_otherwise() {
        let after = resolve(&said(&[("a", None), ("b", None), ("c", Some(&[])), ("d", Some(&["a", "c"]))]));
        assert_eq!(after.unwrap(), [vec![], vec![0], vec![], vec![0, 2]]);
    }

    #[test]
    fn a_circle_is_refused_by_its_names() {
        let refused =
            resolve(&said(&[("x", Some(&[])), ("a", Some(&["x", "c"])), ("b", Some(&["a"])), ("c", Some(&["b"]))]));
        let told = refused.unwrap_err()[0].to_string();
        assert!(told.contains("a -> c -> b -> a"), "{told}");
        let own = resolve(&said(&[("a", Some(&["a"]))])).unwrap_err()[0].to_string();
        assert!(own.contains("a -> a"), "{own}");
    }

    #[test]
    fn names_that_are_taken_or_mean_nobody_are_refused_all_at_once() {
        let refused = resolve(&said(&[("a", None), ("a", Some(&["q"])), ("", None)])).unwrap_err();
        let fields: Vec<_> = refused.iter().filter_map(|error| error.field().map(str::to_owned)).collect();
        assert_eq!(fields, ["members[1].name", "members[1].after", "members[2].name"]);
    }

    proptest! {
        /// Edges to smaller indices alone make no circle; one that leads back along a way does, and it is one.
        #[test]
        fn circles(edges in prop::collection::vec((0..8usize, 0..8usize), 0..20)) {
            let mut after = vec![Vec::new(); 8];
            for (from, to) in &edges {
                after[*from].push(*to);
            }
            match circle(&after) {
                Some(circle) => {
                    prop_assert!(circle.len() > 1 && circle.first() == circle.last());
                    prop_assert!(circle.windows(2).all(|pair| after[pair[0]].contains(&pair[1])));
                }
                // Then they can be put in order: take away who waits for nobody, again and again.
                None => {
                    let mut left: Vec<usize> = (0..8).collect();
                    while !left.is_empty() {
                        let rest: Vec<_> = left.clone();
                        left.retain(|node| after[*node].iter().any(|other| rest.contains(other)));
                        prop_assert!(left.len() < rest.len());
                    }
                }
            }
        }
    }
}
