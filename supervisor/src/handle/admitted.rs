//! Room for further processes: asked for where the container was admitted, on behalf of the same caller.

use std::time::Duration;

use orangery_runtime::ProcessSpec;

use super::ContainerHandle;
use crate::admission::{Beside, Cost, Permit, admit};
use crate::error::Error;

impl ContainerHandle {
    pub(crate) async fn admitted(
        &self,
        spec: &ProcessSpec,
        beside: Beside,
        patience: Option<Duration>,
    ) -> Result<Permit, Error> {
        let slot = self.slot();
        let door = slot.door.get().ok_or_else(|| self.lost())?;
        let cost = Cost::of_process(spec, slot.ring_bytes, beside);
        let permit = admit(door, cost, patience, |task| self.system().spawn(task)).await;
        permit.inspect_err(|error| slot.voice().meters().refused(error))
    }
}
