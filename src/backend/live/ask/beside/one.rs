//! One of the processes at a time: asked with a deadline of its own, signalled, seen off. Where a fault is tried, a process that
//! dies or hangs is what was asked for: what happens to it is told there, not judged.

use rustix::process::Signal;

use super::{Beside, Spot, hello};
use crate::backend::live::ask::Stop;
use crate::backend::live::seat::{Fault, collect};
use crate::host::clock::now;
use crate::host::process::state_of;
use crate::tenant::protocol::{Load, NoiseOrder, Order, Reply};
use crate::tenant::question::{Answer, Question};
use crate::units::Nanos;

impl Beside<'_, '_> {
    /// Gives the one at `index` an order, and waits for its reply.
    fn tell(&mut self, index: usize, order: &Order, limit: Nanos) -> Result<Reply, Fault> {
        let one = &mut self.tenants[index..=index];
        one[0].order(order, limit)?;
        let replies = collect(one, Nanos::MAX, Nanos::MAX, &mut |_| {}).map_err(|(_, fault)| fault)?;
        replies.into_iter().flatten().next().ok_or_else(|| Fault::Io("it gave no reply".to_owned()))
    }

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
        match self.tell(index, &Order::Ask(question), limit)? {
            Reply::Answered(answer) => Ok(answer),
            // The seat has matched the reply with the order.
            _ => Err(Fault::Io("it did not answer its question".to_owned())),
        }
    }

    /// The same, of one that is to live: what happened to it instead ends the question.
    pub(in crate::backend::live) fn ask_one(&mut self, index: usize, question: Question) -> Result<Answer, Stop> {
        self.ask_of(index, question, self.patience()).map_err(|fault| self.fell(index, fault))
    }

    /// The same, of one that may die over it: how it ended, or what befell its context, where it has no answer for that.
    pub(in crate::backend::live) fn ask_mortal(
        &mut self,
        index: usize,
        question: Question,
    ) -> Result<Result<Answer, String>, Stop> {
        match self.ask_of(index, question, self.patience()) {
            Ok(answer) => Ok(Ok(answer)),
            Err(fault @ Fault::Died { .. }) => Ok(Err(fault.to_string())),
            Err(Fault::Refused(failed)) if !failed.usable => Ok(Err(Fault::Refused(failed).to_string())),
            Err(fault) => Err(self.fell(index, fault)),
        }
    }

    /// Loads programs in the one at `index`.
    pub(in crate::backend::live) fn load_one(&mut self, index: usize, load: Load) -> Result<(), Stop> {
        let limit = self.session.live.settings.deadlines.load;
        self.tell(index, &Order::Load(load), limit).map(drop).map_err(|fault| self.fell(index, fault))
    }

    /// Lets the one at `index` make noise.
    pub(in crate::backend::live) fn noise(&mut self, index: usize, order: NoiseOrder) -> Result<(), Stop> {
        self.tenants[index].region.begin_epoch();
        let limit = self.session.live.settings.deadlines.noise;
        self.tell(index, &Order::Noise(order), limit).map(drop).map_err(|fault| self.fell(index, fault))
    }

    /// Starts one more, beside those that are up. Its index.
    pub(in crate::backend::live) fn join(&mut self, spot: Spot) -> Result<usize, Stop> {
        self.launch(spot)?;
        let index = self.tenants.len() - 1;
        let limit = self.session.live.settings.deadlines.hello;
        self.tell(index, &hello(), limit).map_err(|fault| self.fell(index, fault))?;
        Ok(index)
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
