//! What may run next: steps that are ready, by what they need, and what those that run leave free.

use std::collections::{BTreeMap, BTreeSet};

use crate::stage::Resources;

/// Steps that run at once, at most, however little each needs.
const MOST_RUNNING: usize = 256;

/// What the steps that run at once may occupy together.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Cores.
    pub cpu: u32,
    /// Network connections.
    pub net: u32,
    /// Bytes of memory.
    pub memory: u64,
}

impl Limits {
    /// Network connections, where nothing else is said.
    pub const CONNECTIONS: u32 = 4;

    /// So many cores and bytes of memory.
    #[must_use]
    pub fn of_machine(cores: usize, memory: u64) -> Self {
        let cpu = u32::try_from(cores).unwrap_or(u32::MAX);
        Self { cpu, net: Self::CONNECTIONS, memory }
    }

    /// The needs of a step that asks for more than there is: all there is.
    fn clamp(&self, needs: Resources) -> Resources {
        Resources {
            cpu: needs.cpu.min(self.cpu),
            net: needs.net.min(self.net),
            memory: needs.memory.min(self.memory),
            ..needs
        }
    }
}

/// Steps that are ready, and the resources that running ones hold.
pub(super) struct Queue {
    limits: Limits,
    /// By need, because there are few different needs and may be many steps.
    ready: BTreeMap<Resources, BTreeSet<usize>>,
    held: Resources,
    running: usize,
}

impl Queue {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, ready: BTreeMap::new(), held: Resources::default(), running: 0 }
    }

    /// Steps that run.
    pub(super) const fn running(&self) -> usize {
        self.running
    }

    /// Adds a step that is ready.
    pub(super) fn push(&mut self, at: usize, needs: Resources) {
        self.ready.entry(self.limits.clamp(needs)).or_default().insert(at);
    }

    /// The first step whose needs are free, which holds them from now on.
    pub(super) fn start(&mut self) -> Option<usize> {
        let fitting = self.ready.iter().filter(|(needs, _)| self.fits(needs));
        let (at, needs) = fitting.filter_map(|(needs, steps)| Some((*steps.first()?, *needs))).min()?;
        if let Some(steps) = self.ready.get_mut(&needs) {
            steps.remove(&at);
            if steps.is_empty() {
                self.ready.remove(&needs);
            }
        }
        self.held.cpu += needs.cpu;
        self.held.net += needs.net;
        self.held.memory = self.held.memory.saturating_add(needs.memory);
        self.held.device |= needs.device;
        self.running += 1;
        Some(at)
    }

    /// Frees what a step held that has ended.
    pub(super) fn end(&mut self, needs: Resources) {
        let needs = self.limits.clamp(needs);
        self.held.cpu -= needs.cpu;
        self.held.net -= needs.net;
        self.held.memory = self.held.memory.saturating_sub(needs.memory);
        self.held.device &= !needs.device;
        self.running -= 1;
    }

    /// Whether a step with these needs may start beside those running. The first one always may.
    fn fits(&self, needs: &Resources) -> bool {
        let (held, limits) = (&self.held, &self.limits);
        self.running == 0
            || self.running < MOST_RUNNING
                && (needs.cpu == 0 || held.cpu + needs.cpu <= limits.cpu)
                && (needs.net == 0 || held.net + needs.net <= limits.net)
                && (needs.memory == 0 || held.memory.saturating_add(needs.memory) <= limits.memory)
                && !(needs.device && held.device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1_000_000_000;

    fn queue(needs: &[Resources]) -> Queue {
        let mut queue = Queue::new(Limits { cpu: 4, net: 2, memory: 8 * GB });
        needs.iter().enumerate().for_each(|(at, needs)| queue.push(at, *needs));
        queue
    }

    fn started(queue: &mut Queue) -> Vec<usize> {
        std::iter::from_fn(|| queue.start()).collect()
    }

    #[test]
    fn what_fits_starts_in_order() {
        let two = Resources { cpu: 2, ..Resources::default() };
        let needs = [two, Resources::CORES, two, two, Resources::NET, Resources::NET, Resources::NET];
        let mut queue = queue(&needs);
        assert_eq!(started(&mut queue), [0, 2, 4, 5]);
        queue.end(two);
        assert_eq!(started(&mut queue), [3]);
        queue.end(Resources::NET);
        assert_eq!(started(&mut queue), [6]);
        for needs in [two, two, Resources::NET, Resources::NET] {
            queue.end(needs);
        }
        assert_eq!((started(&mut queue), queue.running()), (vec![1], 1));
    }

    #[test]
    fn there_is_one_device() {
        let needs = Resources { device: true, ..Resources::default() };
        let mut queue = queue(&[needs, needs]);
        assert_eq!(started(&mut queue), [0]);
        queue.end(needs);
        assert_eq!(started(&mut queue), [1]);
    }

    #[test]
    fn memory_is_shared_and_too_much_of_it_runs_alone() {
        let of = |gigabytes: u64| Resources { memory: gigabytes * GB, ..Resources::default() };
        let mut queue = queue(&[of(5), of(5), of(3), of(100), of(0)]);
        assert_eq!(started(&mut queue), [0, 2, 4]);
        for gigabytes in [5, 3, 0] {
            queue.end(of(gigabytes));
        }
        assert_eq!(started(&mut queue), [1]);
        queue.end(of(5));
        assert_eq!(started(&mut queue), [3]);
    }

    #[test]
    fn ready_steps_are_not_looked_through() {
        let mut queue = queue(&vec![Resources::ONE_CORE; 200_000]);
        let started = std::time::Instant::now();
        let mut running = std::collections::VecDeque::new();
        let mut ended = 0;
        while ended < 200_000 {
            running.extend(std::iter::from_fn(|| queue.start()));
            running.pop_front().unwrap();
            queue.end(Resources::ONE_CORE);
            ended += 1;
        }
        // Looking through them all each time would take minutes.
        assert!(started.elapsed() < std::time::Duration::from_secs(10));
    }
}
