//! How fast running work goes: one solve per event, no fixed point.
//!
//! Per repetition a launch takes `parallel + serial`: the slowest of what overlaps (issue, tensor, waves, bytes at each
//! level, atomics, barriers), then its chain of dependent loads at the loaded latency. Each resource is shared max–min
//! fairly by demand, in the order SM, device memory, L2, atomics, barriers: a flow that one resource slows asks the next
//! for less. What remains of the order is a simplification: the earlier resource does not hear of the later one.

use super::engine::{Machine, bits};
use super::power::TICK;
use super::share::{level, queueing};
use super::state::{DomainState, Head};
use super::work::{Kind, LINE, SECTOR, Work};
use crate::channel::Channel;

/// What a domain can use of hardware that a leak can expose to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    /// Room for blocks, in SMs.
    Slots,
    /// SM cycles of issue per cycle.
    Issue,
    /// SM cycles of tensor pipes per cycle.
    Tensor,
    /// Bytes per cycle through L1.
    L1,
    /// Bytes of one SM's L1 that are touched.
    L1Room,
    /// Bytes per nanosecond.
    L2,
    /// Bytes inserted into L2 per nanosecond.
    L2Lines,
    /// Bytes per nanosecond.
    Hbm,
    /// Device memory in use.
    HbmRoom,
    /// Contents of pages given back.
    Contents,
    /// Atomics per nanosecond.
    Atomics,
    /// Copies running.
    CopyEngine,
}

impl Resource {
    pub const COUNT: usize = 12;

    /// The resources of a domain behind `channel`; none where it hangs on the GPU.
    pub fn of(channel: Channel) -> &'static [Self] {
        match channel {
            Channel::BlockSlots => &[Self::Slots],
            Channel::Issue => &[Self::Issue],
            Channel::Tensor => &[Self::Tensor],
            Channel::L1 => &[Self::L1, Self::L1Room],
            Channel::L2 => &[Self::L2, Self::L2Lines],
            Channel::HbmBandwidth => &[Self::Hbm],
            Channel::HbmCapacity => &[Self::HbmRoom],
            Channel::ResidualMemory => &[Self::Contents],
            Channel::Atomics => &[Self::Atomics],
            Channel::CopyEngine => &[Self::CopyEngine],
            Channel::Tlb
            | Channel::Membar
            | Channel::Pcie
            | Channel::Launch
            | Channel::Driver
            | Channel::Power
            | Channel::Fault
            | Channel::Host => &[],
        }
    }
}

/// `wait` nanoseconds after `t`; never, where it is infinite.
fn later(t: u64, wait: f64) -> u64 {
    if wait.is_finite() { t.saturating_add((wait as u64).max(1)) } else { u64::MAX }
}

/// A demand per nanosecond: streamed within the parallel part, chained within the serial one.
fn rate(stream: f64, parallel: f64, chained: f64, serial: f64) -> f64 {
    let streaming = if stream > 0.0 { stream / parallel } else { 0.0 };
    if chained > 0.0 { streaming.max(chained / serial) } else { streaming }
}

impl Machine {
    /// Sets the rates of everything that an event may have changed.
    pub(super) fn solve(&mut self, t: u64) {
        let mut gpus = self.dirty.gpus;
        for d in bits(u64::from(self.dirty.domains)) {
            gpus |= 1 << self.domains[d].gpu;
        }
        // A leak's background is the use of the other domains, which the first pass finds.
        for _ in 0..if self.k.leaky { 2 } else { 1 } {
            for g in bits(u64::from(gpus)) {
                self.solve_gpu(g, t);
            }
        }
        for g in bits(u64::from(self.dirty.links)) {
            self.solve_link(g, t);
        }
    }

    fn solve_gpu(&mut self, g: usize, t: u64) {
        self.gpus[g].tlb.step(t);
        let all = self.gpus[g].domains;
        let coupled = self.gpus[g].barriers != 0 || self.gpus[g].crowded != 0.0;
        let mut domains = all & u64::from(self.dirty.domains);
        if coupled {
            // Strong loads everywhere feel barriers anywhere on the GPU. Nobody else does, nor is looked at again.
            domains |= self.users(all, |w| w.strong || w.barriers > 0.0);
        }
        for d in bits(domains) {
            self.ask(d, t);
        }
        if coupled {
            self.share_barriers(g, t);
        }
        for d in bits(domains) {
            self.settle(d, t);
        }
        let (mut scaled, mut fixed, mut busy) = (0.0, 0.0, 0);
        let mut tick = u64::MAX;
        for d in bits(all) {
            let domain = &self.domains[d];
            scaled += domain.scaled_w;
            fixed += domain.fixed_w;
            busy |= domain.running;
            tick = tick.min(domain.tick);
        }
        let gpu = &mut self.gpus[g];
        gpu.clock.draw(t, scaled, fixed);
        gpu.tlb_tick = u64::MAX;
        gpu.tick = u64::MAX;
        if busy != 0 {
            gpu.tlb.asked();
            gpu.tlb_tick = later(t, gpu.tlb.settling());
            gpu.tick = tick.min(gpu.tlb_tick).min((gpu.clock.since + TICK).max(t + 1));
        }
    }

    /// The domains of `mask` with running work of which `some` holds.
    pub(super) fn users(&self, mask: u64, some: impl Fn(&Work) -> bool) -> u64 {
        bits(mask)
            .filter(|d| bits(self.domains[*d].running).any(|q| some(&self.works[usize::from(self.heads[q].work)])))
            .fold(0, |users, d| users | 1 << d)
    }

    /// What the running launches of domain `d` would use by themselves, cut to their shares of the domain's resources.
    fn ask(&mut self, d: usize, t: u64) {
        let domain = &mut self.domains[d];
        let g = usize::from(domain.gpu);
        let gpu = &mut self.gpus[g];
        let (ghz, cycle) = (gpu.clock.ghz, gpu.clock.ns);
        domain.l2.step(t);
        domain.l2.clear(domain.contexts);
        gpu.tlb.clear(domain.contexts);
        let running = domain.running;
        for q in bits(running) {
            let head = &self.heads[q];
            let w = &self.works[usize::from(head.work)];
            let x = usize::from(head.context);
            domain.l2.touch(x, w.l2_footprint + w.l2_footprint_per_sm * head.span);
            gpu.tlb.touch(x, w.pages);
        }
        let crowd = running & running.wrapping_sub(1) != 0 || self.k.leaky;
        let l2_time = cycle / self.domains[d].l2_per_cycle;
        let atomic_time = cycle / self.domains[d].atomics_per_cycle;
        let hbm_time = 1.0 / self.domains[d].hbm_rate;
        let (mut at_hbm, mut at_l2, mut atomic) = (0u64, 0u64, 0u64);
        for q in bits(running) {
            let l1_hit =
                if self.works[usize::from(self.heads[q].work)].l1_footprint > 0.0 { self.l1_hit(q, d) } else { 0.0 };
            let k = &self.k;
            let head = &mut self.heads[q];
            let w = &self.works[usize::from(head.work)];
            let x = usize::from(head.context);
            let miss = 1.0 - self.domains[d].l2.hit(x);
            head.l2 = w.bytes - w.l1_bytes * l1_hit;
            head.hbm = head.l2 * miss;
            let mut cycles = head.cycles;
            if w.bytes > 0.0 {
                cycles = cycles.max((head.l2 / k.port_width).max(w.l1_bytes / k.l1_width) / head.span);
            }
            let mut parallel = (cycles * cycle).max(head.l2 * l2_time).max(head.hbm * hbm_time);
            if w.atomics > 0.0 {
                parallel = parallel.max(w.atomics * atomic_time);
            }
            if w.barriers > 0.0 {
                parallel = parallel.max(w.barriers / k.barriers);
            }
            head.parallel = parallel;
            let chained = w.loads > 0.0;
            at_hbm |= u64::from(head.hbm > 0.0 || chained) << q;
            at_l2 |= u64::from(head.l2 > 0.0 || chained) << q;
            atomic |= u64::from(w.atomics > 0.0) << q;
            if chained {
                let past_l1 = if w.chain_l1 { 1.0 - l1_hit } else { 1.0 };
                let translate = w.past_sm * (1.0 - self.gpus[g].tlb.hit(x)) * k.miss_ns;
                let loads = w.loads * head.waves;
                head.at_l2 = loads * past_l1 * (1.0 - miss) * k.l2_cycles * cycle;
                head.at_hbm = loads * past_l1 * miss * k.hbm_ns;
                head.elsewhere = loads * ((1.0 - past_l1) * k.l1_cycles * cycle + past_l1 * translate);
                head.chain_l2 = w.chained * past_l1;
                head.chain_hbm = head.chain_l2 * miss;
            }
        }
        if crowd {
            self.share_sms(d, ghz);
            let (hbm, l2) = (self.domains[d].hbm_rate, 1.0 / l2_time);
            let background = self.background(d, Resource::Hbm);
            self.domains[d].hbm_level = self.share_by(at_hbm, hbm, background, |h, _| (h.hbm, h.chain_hbm * SECTOR));
            let background = self.background(d, Resource::L2);
            self.domains[d].l2_level = self.share_by(at_l2, l2, background, |h, _| (h.l2, h.chain_l2 * SECTOR));
            let background = self.background(d, Resource::Atomics);
            self.share_by(atomic, 1.0 / atomic_time, background, |_, w| (w.atomics, 0.0));
        } else {
            self.domains[d].hbm_level = self.domains[d].hbm_rate;
            self.domains[d].l2_level = 1.0 / l2_time;
        }
    }

    /// Shares one resource of `capacity` among `flows`; returns the level.
    fn share_by(
        &mut self,
        flows: u64,
        capacity: f64,
        background: f64,
        amounts: impl Fn(&Head, &Work) -> (f64, f64),
    ) -> f64 {
        if flows & flows.wrapping_sub(1) == 0 && background == 0.0 {
            // Its own demand alone is cut to the capacity already.
            return capacity;
        }
        for q in bits(flows) {
            let head = &self.heads[q];
            let (stream, chained) = amounts(head, &self.works[usize::from(head.work)]);
            self.heads[q].asks = rate(stream, head.parallel, chained, head.serial());
        }
        let heads = &self.heads;
        let l = level(capacity, bits(flows).map(|q| heads[q].asks).chain(std::iter::once(background)));
        if l.is_finite() {
            for q in bits(flows) {
                let head = &mut self.heads[q];
                let stream = amounts(head, &self.works[usize::from(head.work)]).0;
                if stream > 0.0 && head.asks > l {
                    head.parallel = head.parallel.max(stream / l);
                }
            }
        }
        l.min(capacity)
    }

    /// Shares issue slots, tensor pipes and L1 bandwidth between launches on the same SMs.
    fn share_sms(&mut self, d: usize, ghz: f64) {
        let mut rest = self.domains[d].running;
        while rest != 0 {
            let q = rest.trailing_zeros() as usize;
            let pool = usize::from(self.contexts[usize::from(self.heads[q].context)].pool);
            let mates = self.pools[pool].members & self.domains[d].running;
            rest &= !mates;
            if mates & mates.wrapping_sub(1) == 0 && !self.k.leaky {
                continue;
            }
            let width = self.k.l1_width;
            self.share_sm(d, mates, pool, 1.0, ghz, Resource::Issue, |w| w.issue);
            self.share_sm(d, mates, pool, 1.0, ghz, Resource::Tensor, |w| w.tensor);
            self.share_sm(d, mates, pool, width, ghz, Resource::L1, |w| w.l1_bytes);
        }
    }

    /// Shares a resource that every SM has `width` of per cycle. Two limits hold: that of the launch's own SMs, where
    /// it meets who lies on them, and that of all SMs together.
    #[expect(clippy::too_many_arguments, reason = "one resource of one pool, described in full")]
    fn share_sm(
        &mut self,
        d: usize,
        mates: u64,
        pool: usize,
        width: f64,
        ghz: f64,
        resource: Resource,
        amount: impl Fn(&Work) -> f64,
    ) {
        let sms = self.pools[pool].sms;
        let mut users = 0u64;
        for q in bits(mates) {
            let head = &mut self.heads[q];
            let amount = amount(&self.works[usize::from(head.work)]);
            // Per SM it lies on, as a part of what that SM has.
            head.asks = if amount > 0.0 { amount / (head.parallel * head.span * width * ghz) } else { 0.0 };
            users |= u64::from(amount > 0.0) << q;
        }
        let background = self.background(d, resource) / (sms * width);
        if users == 0 || (users & (users - 1) == 0 && background == 0.0) {
            return;
        }
        let heads = &self.heads;
        let all =
            level(sms, bits(users).map(|q| heads[q].asks * heads[q].span).chain(std::iter::once(background * sms)));
        let mut shares = [f64::INFINITY; super::engine::QUEUES];
        for q in bits(users) {
            let me = &heads[q];
            // Blocks go to the emptiest SMs first: two launches meet only where both do not fit side by side.
            let met = |other: &Head| ((me.span + other.span - sms) / me.span).clamp(0.0, 1.0);
            let own = level(
                1.0,
                bits(users)
                    .map(|o| if o == q { me.asks } else { heads[o].asks * met(&heads[o]) })
                    .chain(std::iter::once(background)),
            );
            shares[q] = own.min(all / me.span);
        }
        for q in bits(users) {
            let head = &mut self.heads[q];
            if head.asks > shares[q] {
                head.parallel *= head.asks / shares[q];
            }
        }
    }

    /// Share of the accesses through L1 that hit: launches on the same SMs hold it max–min fairly by footprint.
    fn l1_hit(&self, q: usize, d: usize) -> f64 {
        let me = &self.heads[q];
        let pool = &self.pools[usize::from(self.contexts[usize::from(me.context)].pool)];
        let footprint = |q: usize| self.works[usize::from(self.heads[q].work)].l1_footprint;
        let mates = pool.members & self.domains[d].running;
        let share = level(
            self.k.l1_bytes,
            bits(mates)
                .map(|o| {
                    let met = ((me.span + self.heads[o].span - pool.sms) / me.span).clamp(0.0, 1.0);
                    if o == q { footprint(q) } else { footprint(o) * met }
                })
                .chain(std::iter::once(self.background(d, Resource::L1Room))),
        );
        (share / footprint(q)).min(1.0)
    }

    /// Shares the barrier path of GPU `g` and sets how crowded it is.
    fn share_barriers(&mut self, g: usize, t: u64) {
        let flows = self.gpus[g].barriers;
        let capacity = self.k.barriers;
        for q in bits(flows) {
            let head = &mut self.heads[q];
            let w = &self.works[usize::from(head.work)];
            if w.kind == Kind::Host {
                head.parallel = w.lock.max(w.barriers / capacity);
            }
        }
        self.share_by(flows, capacity, 0.0, |_, w| (w.barriers, 0.0));
        let mut used = 0.0;
        for q in bits(flows) {
            let head = &self.heads[q];
            let w = &self.works[usize::from(head.work)];
            if w.kind == Kind::Host {
                used += w.barriers / head.parallel;
                self.retime(q, t, self.heads[q].parallel.max(1.0));
            } else {
                used += w.barriers / (head.parallel + head.serial() + head.gap).max(1.0);
            }
        }
        self.gpus[g].crowded = (used / capacity).min(1.0);
    }

    /// Loaded latencies, rates and draw of domain `d`.
    fn settle(&mut self, d: usize, t: u64) {
        let (hbm_factor, l2_factor, strong_factor) = (self.k.hbm_factor, self.k.l2_factor, self.k.strong_factor);
        let g = usize::from(self.domains[d].gpu);
        let (cycle, crowded) = (self.gpus[g].clock.ns, self.gpus[g].crowded);
        let running = self.domains[d].running;
        let (mut issue, mut tensor, mut l1, mut l2, mut hbm, mut atomics) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
        let mut chains = 0u64;
        for q in bits(running) {
            let head = &mut self.heads[q];
            let w = &self.works[usize::from(head.work)];
            let mut period = head.parallel;
            let (mut moved_l2, mut moved_hbm) = (head.l2, head.hbm);
            if w.loads > 0.0 {
                period += head.serial();
                moved_l2 += head.chain_l2 * SECTOR;
                moved_hbm += head.chain_hbm * SECTOR;
                chains |= 1 << q;
            }
            head.asks = period.max(1.0) + head.gap;
            let per_ns = 1.0 / head.asks;
            issue += w.issue * per_ns;
            tensor += w.tensor * per_ns;
            l1 += w.l1_bytes * per_ns;
            atomics += w.atomics * per_ns;
            l2 += moved_l2 * per_ns;
            hbm += moved_hbm * per_ns;
        }
        let domain = &self.domains[d];
        if chains != 0 {
            let (hbm_level, l2_level) = (domain.hbm_level, domain.l2_level);
            let at_hbm = queueing((hbm + self.background(d, Resource::Hbm)) / domain.hbm_rate, hbm_factor);
            let at_l2 = queueing((l2 + self.background(d, Resource::L2)) * cycle / domain.l2_per_cycle, l2_factor);
            for q in bits(chains) {
                let head = &mut self.heads[q];
                let w = &self.works[usize::from(head.work)];
                let mut serial = head.at_l2 * at_l2 + head.at_hbm * at_hbm + head.elsewhere;
                if w.strong {
                    serial *= 1.0 + (strong_factor - 1.0) * crowded;
                }
                // Very many chains side by side are bound by bandwidth.
                serial = serial.max(head.chain_hbm * SECTOR / hbm_level).max(head.chain_l2 * SECTOR / l2_level);
                head.asks = (head.parallel + serial).max(1.0) + head.gap;
            }
        }
        for q in bits(running) {
            let head = &self.heads[q];
            let w = &self.works[usize::from(head.work)];
            let (period, x) = (head.asks, usize::from(head.context));
            let lines = head.l2 + if w.loads > 0.0 { head.chain_l2 * LINE } else { 0.0 };
            if lines > 0.0 {
                self.domains[d].l2.access(x, lines / period);
            }
            if w.lookups > 0.0 {
                self.gpus[g].tlb.access(x, w.lookups / period);
            }
            self.retime(q, t, period);
        }
        let leaked = if self.k.leaky {
            let own = &mut self.domains[d].uses;
            own[Resource::Issue as usize] = issue * cycle;
            own[Resource::Tensor as usize] = tensor * cycle;
            own[Resource::L1 as usize] = l1 * cycle;
            own[Resource::L2 as usize] = l2;
            own[Resource::Hbm as usize] = hbm;
            own[Resource::Atomics as usize] = atomics;
            self.note_room(d);
            self.background(d, Resource::L2Lines)
        } else {
            0.0
        };
        let domain = &mut self.domains[d];
        domain.l2.leak(leaked);
        domain.l2.asked();
        domain.tick = if running == 0 { u64::MAX } else { later(t, domain.l2.settling()).min(t + TICK) };
        let k = &self.k;
        domain.scaled_w =
            (k.issue_w * issue + k.tensor_w * tensor) * cycle / k.sms + k.l2_w * l2 * cycle * k.max_ghz / k.l2_rate;
        domain.fixed_w = k.hbm_w * hbm / k.hbm_rate;
    }

    /// Notes what domain `d` holds and inserts, for the leaks of the others.
    fn note_room(&mut self, d: usize) {
        let domain = &self.domains[d];
        let rooms: f64 = bits(domain.running).map(|q| self.heads[q].room).sum();
        let l1 =
            bits(domain.running).map(|q| self.works[usize::from(self.heads[q].work)].l1_footprint).fold(0.0, f64::max);
        let inserted = domain.l2.inserted();
        let own = &mut self.domains[d].uses;
        own[Resource::Slots as usize] = rooms;
        own[Resource::L1Room as usize] = l1;
        own[Resource::L2Lines as usize] = inserted;
    }

    /// What domain `d` uses now of each resource, from the rates alone.
    #[cfg(test)]
    pub(super) fn uses(&self, d: usize) -> Vec<(Resource, f64)> {
        let mut uses = [0.0; Resource::COUNT];
        let ghz = self.gpus[usize::from(self.domains[d].gpu)].clock.ghz;
        for q in bits(self.domains[d].running) {
            let head = &self.heads[q];
            let w = &self.works[usize::from(head.work)];
            uses[Resource::Slots as usize] += head.room;
            uses[Resource::Issue as usize] += w.issue / head.period / ghz;
            uses[Resource::Tensor as usize] += w.tensor / head.period / ghz;
            uses[Resource::L1 as usize] += w.l1_bytes / head.period / ghz;
            uses[Resource::L2 as usize] += (head.l2 + head.chain_l2 * SECTOR) / head.period;
            uses[Resource::Hbm as usize] += (head.hbm + head.chain_hbm * SECTOR) / head.period;
            uses[Resource::Atomics as usize] += w.atomics / head.period;
        }
        let all = [Resource::Slots, Resource::Issue, Resource::Tensor, Resource::L1, Resource::L2, Resource::Hbm];
        all.into_iter().chain([Resource::Atomics]).map(|r| (r, uses[r as usize])).collect()
    }

    /// What a leak adds to the load of `resource` in domain `d`.
    pub(super) fn background(&self, d: usize, resource: Resource) -> f64 {
        let share = self.k.leaks[resource as usize];
        if share == 0.0 {
            return 0.0;
        }
        let others = self.domains.iter().enumerate().filter(|(other, _)| *other != d).map(|(_, domain)| domain);
        // Copies begin and end outside of the solves that note what else is used.
        let uses = |domain: &DomainState| match resource {
            Resource::CopyEngine => f64::from(domain.copies_running.count_ones()),
            _ => domain.uses[resource as usize],
        };
        share * others.map(uses).sum::<f64>()
    }

    /// Shares the PCIe link of GPU `g`: each direction, then both together.
    fn solve_link(&mut self, g: usize, t: u64) {
        let copies = self.gpus[g].copies;
        let (mut down, mut up) = (0u32, 0u32);
        for q in bits(copies) {
            match self.works[usize::from(self.heads[q].work)].kind {
                Kind::ToDevice => down += 1,
                _ => up += 1,
            }
        }
        // Every copy can use the whole link, so that max–min is an equal share.
        let each = |kind: Kind| match kind {
            Kind::ToDevice => self.k.to_device / f64::from(down),
            _ => self.k.to_host / f64::from(up),
        };
        let kinds = bits(copies).map(|q| self.works[usize::from(self.heads[q].work)].kind);
        let both = level(self.k.both, kinds.map(each));
        let (down, up) = (each(Kind::ToDevice).min(both), each(Kind::ToHost).min(both));
        let setup = self.k.setup_ns;
        for q in bits(copies) {
            let w = &self.works[usize::from(self.heads[q].work)];
            let rate = if w.kind == Kind::ToDevice { down } else { up };
            self.retime(q, t, (setup + w.bytes / rate).max(1.0));
        }
    }

    /// Accounts for what the head of queue `q` did up to `t`.
    pub(super) fn progress(&mut self, q: usize, t: u64) {
        let head = &mut self.heads[q];
        head.rest = (head.rest - (t - head.since) as f64 / head.period).max(0.0);
        head.since = t;
    }

    /// From `t` on a repetition of the head of queue `q` takes `period` nanoseconds. It ends at the first whole
    /// nanosecond by which nothing is left; rounding errors below a millionth do not count.
    pub(super) fn retime(&mut self, q: usize, t: u64, period: f64) {
        if self.heads[q].period.to_bits() == period.to_bits() {
            return;
        }
        self.progress(q, t);
        let head = &mut self.heads[q];
        head.period = period;
        let left = head.rest * period - 1e-6;
        let whole = left as u64;
        let whole = whole + u64::from(left > whole as f64);
        self.wakes[q] = t.saturating_add(whole.max(1));
    }
}
