//! The mailbox of an actor as a site.

use actix::{Actor, AsyncContext, Context, Handler, Message};

use super::{Fault, Faults, Site};

/// An actor that asks about each message before it handles it.
pub(crate) trait Mailbox: Actor<Context = Context<Self>> {
    /// Whether the message in hand has had its delay.
    fn waited(&mut self) -> &mut bool;

    /// A message has come: it comes back to be handled now, or it is lost, or it is handled later.
    fn admit<M>(&mut self, faults: &Faults, site: Site, message: M, ctx: &mut Context<Self>) -> Option<M>
    where
        M: Message<Result = ()> + 'static,
        Self: Handler<M, Result = ()>,
    {
        if std::mem::take(self.waited()) {
            return Some(message);
        }
        match faults.ask(site) {
            Fault::Delay(time) => {
                ctx.run_later(time, move |actor, ctx| {
                    *actor.waited() = true;
                    actor.handle(message, ctx);
                });
                None
            }
            Fault::Drop => None,
            _ => Some(message),
        }
    }
}
