//! Without the feature `faults` nothing is planned.

use std::collections::BTreeMap;

use orangery_io_stream::Source;

use super::Site;
use super::held::Held;

#[derive(Default)]
pub(crate) struct Plans {}

#[expect(clippy::unused_self, reason = "the other one needs it")]
impl Plans {
    pub(super) fn accepted(&self, _: &str, _: &BTreeMap<String, String>, _: u32) {}

    pub(super) fn end(&self) {}

    pub(super) async fn ended(&self) {}

    pub(super) fn fails(&self, _: &str, _: u32, _: Site) -> bool {
        false
    }

    pub(super) fn stalled(&self, _: &str, _: u32, _: Source) -> Held {
        Held::default()
    }

    pub(super) fn report(&self, _: &str, _: u32) -> (Held, Option<(i32, String)>) {
        (Held::default(), None)
    }
}
