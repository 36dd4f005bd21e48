//! One of the processes at a time: asked with a deadline of its own, signalled, seen off. What happens to it is told, not
//! judged: where a fault is tried, a process that dies or hangs is what was asked for.

use rustix::process::Signal;

use super::{Beside, Spot};
use crate::backend::live::ask::Stop;
use crate::backend::live::seat::{Fault, collect};
use crate::host::clock::now;
use crate::host::process::state_of;
use crate::tenant::protocol::{Order, PROTOCOL, Reply};
use crate::tenant::question::{Answer, Question};
use crate::units::Nanos;

impl Beside<'_, '_> {
    /// Asks the one at `index`, and waits for its answer.
    ///
    /// # Errors
    /// What happened to it instead.
    pub(in crate::backend::live) fn ask_of(
        &mut self,
        index: usize,
        question: Question,
        limit: Nanos,
    ) -> Result<Answer, Fault> {
        let one = &mut self.tenants[index..=index];
        one[0].order(&Order::Ask(question), limit)?;
        let replies = collect(one, Nanos::MAX, Nanos::MAX, &mut |_| {}).map_err(|(_, fault)| fault)?;
        match replies.into_iter().flatten().next() {
            Some(Reply::Answered(answer)) => Ok(answer),
            // The seat has matched the reply with the order.
            _ => Err(Fault::Io("it did not answer its question".to_owned())),
        }
    }

    /// Starts one more, beside those that are up. Its index.
    pub(in crate::backend::live) fn join(&mut self, spot: Spot) -> Result<usize, Stop> {
        self.launch(spot)?;
        let index = self.tenants.len() - 1;
        let hello = Order::Hello { protocol: PROTOCOL, crosstalk: env!("CARGO_PKG_VERSION").to_owned() };
        let limit = self.session.live.settings.deadlines.hello;
        let one = &mut self.tenants[index..=index];
        let greeted = one[0].order(&hello, limit).map_err(|fault| (0, fault));
        match greeted.and_then(|()| collect(one, Nanos::MAX, Nanos::MAX, &mut |_| {})) {
            Ok(_) => Ok(index),
            Err((_, fault)) => Err(self.fell(index, fault)),
        }
    }

    /// How many there are, those that have ended included.
    pub(in crate::backend::live) fn len(&self) -> usize {
        self.tenants.len()
    }

    /// Sends it a signal.
    pub(in crate::backend::live) fn signal(&mut self, index: usize, signal: Signal) {
        self.tenants[index].signal(signal);
    }

    /// How its process ended, where it does so by `until`.
    pub(in crate::backend::live) fn ended_by(&mut self, index: usize, until: Nanos) -> Option<String> {
        self.tenants[index].ended_by(until)
    }

    /// Tells it to free everything and end, and waits for that: how it ended, where it did within `limit`.
    pub(in crate::backend::live) fn dismiss(&mut self, index: usize, limit: Nanos) -> Option<String> {
        self.tenants[index].farewell(limit);
        self.tenants[index].ended_by(now() + limit)
    }

    /// Kills it: how it ended.
    ///
    /// # Errors
    /// Where it lives on, in a driver call that no signal ends: the state of its process.
    pub(in crate::backend::live) fn kill_one(&mut self, index: usize) -> Result<String, String> {
        let tenant = &mut self.tenants[index];
        if tenant.kill() {
            let state = state_of(tenant.pid()).map_or_else(|| "?".to_owned(), |state| state.to_string());
            return Err(format!(
                "pid {} ({}) was killed and is still there, in state {state}",
                tenant.pid(),
                tenant.who
            ));
        }
        Ok(tenant.ended_by(now()).unwrap_or_else(|| "ended".to_owned()))
    }
}
