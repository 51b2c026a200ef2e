//! The attacker: every message passes through him.

use std::sync::OnceLock;

use fence_virt::auth::HashKind;
use fence_virt::wire::PACKET_LEN;

use super::parties::{AgentSide, DaemonSide, ENDPOINTS, NODE1, Policies, SHARED, STOLEN, is_multicast};

/// Sum over all runs, to see that they show something.
#[derive(Debug, Default)]
pub struct Tally {
    pub carried_out: usize,
    pub carried_out_with_the_stolen_key: usize,
    pub carried_out_by_version_1: usize,
    pub answered: usize,
    pub refused: usize,
}

/// Numbers from a seed (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    /// True once in so many times.
    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next() as u8)
    }
}

/// Party that can be given bytes.
#[derive(Debug, Clone, Copy)]
enum Party {
    Agent(usize, usize),
    Daemon(usize),
}

/// Size of a record of a list with its MAC.
const ITEM: usize = 162;

pub struct Attacker {
    seed: u64,
    random: Random,
    policies: &'static Policies,
    agents: Vec<AgentSide>,
    daemons: Vec<DaemonSide>,
    /// All that he has seen.
    seen: Vec<Vec<u8>>,
    /// Agents and daemons that he lets talk to each other.
    pairs: Vec<(usize, usize)>,
}

impl Attacker {
    pub fn new(seed: u64) -> Attacker {
        static POLICIES: OnceLock<Policies> = OnceLock::new();
        let policies = POLICIES.get_or_init(Policies::new);
        let (agents, daemons, seen, pairs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Attacker { seed, random: Random(seed), policies, agents, daemons, seen, pairs }
    }

    /// Makes moves, and checks after each of them.
    pub fn run(mut self, tally: &mut Tally) {
        for _ in 0..self.random.below(40) + 20 {
            match self.random.below(10) {
                0 => self.open_agent(),
                1 => self.open_daemon(),
                2..=6 => self.relay(),
                7 => self.call_back(),
                8 => self.ask_an_oracle(),
                _ => self.inject(),
            }
            self.check();
        }
        self.count(tally);
    }

    /// An agent asks; the attacker is one with the key that he has stolen.
    fn open_agent(&mut self) {
        let endpoint = self.random.below(ENDPOINTS.len());
        let key = [SHARED, SHARED, NODE1, STOLEN][self.random.below(4)];
        let is_old = key == SHARED && self.random.one_in(4);
        let policy = match is_old {
            true => &self.policies.old_agents[endpoint],
            false => &self.policies.agents[key][endpoint],
        };
        let seqno = u32::try_from(self.agents.len()).unwrap() + self.random.next() as u32 % 3 * 64;
        let agent = AgentSide::new(policy, key, endpoint, seqno, self.random.bytes());
        if is_multicast(endpoint) {
            self.seen.push(agent.request.to_vec());
        }
        self.agents.push(agent);
        // Mostly there is a daemon for it.
        if !self.random.one_in(4) {
            let at = self.agents.len() - 1;
            self.connect(at);
        }
    }

    /// Connects an agent to a listener of its kind, or calls it back.
    fn connect(&mut self, at: usize) {
        let own = self.agents[at].endpoint;
        // Sometimes to another listener than it means.
        let is_redirected = !is_multicast(own) && self.random.one_in(6);
        let endpoint = if is_redirected { self.random.below(ENDPOINTS.len() - 1) } else { own };
        let is_strict = self.random.one_in(2);
        let nonce = self.random.bytes();
        let daemon = match is_multicast(endpoint) {
            true => {
                let datagram = self.agents[at].request;
                let daemon = DaemonSide::call_back(self.policies, endpoint, is_strict, nonce, &datagram);
                self.agents[at].call(self.random.bytes());
                daemon
            }
            false => Some(DaemonSide::accept(self.policies, endpoint, is_strict, nonce)),
        };
        if let Some(daemon) = daemon {
            self.pairs.push((at, self.daemons.len()));
            self.daemons.push(daemon);
        }
    }

    fn open_daemon(&mut self) {
        let endpoint = self.random.below(ENDPOINTS.len() - 1);
        let is_strict = self.random.one_in(2);
        let nonce = self.random.bytes();
        self.daemons.push(DaemonSide::accept(self.policies, endpoint, is_strict, nonce));
    }

    /// A daemon hears a datagram that was seen, altered or not, and calls back.
    fn call_back(&mut self) {
        let Some(datagram) = self.some_seen() else { return };
        let datagram = if self.random.one_in(3) { self.altered(datagram) } else { datagram };
        let Some(datagram) = datagram.first_chunk::<PACKET_LEN>() else { return };
        let nonce = self.random.bytes();
        let is_strict = self.random.one_in(2);
        let multicast = ENDPOINTS.len() - 1;
        let daemon = DaemonSide::call_back(self.policies, multicast, is_strict, nonce, datagram);
        self.daemons.extend(daemon);
        if let Some(agent) = self.some_agent().filter(|at| is_multicast(self.agents[*at].endpoint)) {
            self.agents[agent].call(self.random.bytes());
        }
    }

    /// A C peer with the shared key answers any challenge of version 1.
    fn ask_an_oracle(&mut self) {
        let Some(seen) = self.some_seen() else { return };
        let mut asked = self.random.bytes::<64>();
        let from = self.random.below(seen.len().max(1));
        for (to, byte) in asked.iter_mut().zip(&seen[from.min(seen.len())..]) {
            *to = *byte;
        }
        let answer = self.policies.old_agents[0].key.expected(HashKind::Sha256, &asked);
        self.seen.push(answer.as_bytes().to_vec());
    }

    /// Passes on between a pair what either has to send, mostly as it is.
    fn relay(&mut self) {
        if self.pairs.is_empty() {
            return self.open_agent();
        }
        let (agent, daemon) = self.pairs[self.random.below(self.pairs.len())];
        let session = self.agents[agent].sessions().saturating_sub(1);
        let up = self.agents[agent].take(session);
        let up = self.tampered(up);
        self.give(Party::Daemon(daemon), &up);
        let down = self.daemons[daemon].take();
        let down = self.tampered(down);
        self.give(Party::Agent(agent, session), &down);
    }

    fn tampered(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        if bytes.is_empty() {
            return bytes;
        }
        self.seen.push(bytes.clone());
        if self.random.one_in(8) { self.altered(bytes) } else { bytes }
    }

    /// Gives anybody what was seen, or what somebody else has to send.
    fn inject(&mut self) {
        for at in 0..self.agents.len() {
            for session in 0..self.agents[at].sessions() {
                let sent = if self.random.one_in(3) { self.agents[at].take(session) } else { Vec::new() };
                self.seen.extend(Some(sent).filter(|sent| !sent.is_empty()));
            }
        }
        for at in 0..self.daemons.len() {
            let sent = if self.random.one_in(3) { self.daemons[at].take() } else { Vec::new() };
            self.seen.extend(Some(sent).filter(|sent| !sent.is_empty()));
        }
        let Some(bytes) = self.some_seen() else { return };
        let bytes = if self.random.one_in(2) { self.altered(bytes) } else { bytes };
        let to = match (self.some_agent(), self.daemons.len()) {
            (Some(agent), daemons) if daemons == 0 || self.random.one_in(2) => {
                Party::Agent(agent, self.random.below(self.agents[agent].sessions().max(1)))
            }
            (_, 0) => return,
            (_, daemons) => Party::Daemon(self.random.below(daemons)),
        };
        self.give(to, &bytes);
    }

    fn give(&mut self, to: Party, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        match to {
            Party::Agent(at, session) => self.agents[at].give(session, bytes),
            Party::Daemon(at) => self.daemons[at].give(bytes),
        }
    }

    fn some_agent(&mut self) -> Option<usize> {
        (!self.agents.is_empty()).then(|| self.random.below(self.agents.len()))
    }

    fn some_seen(&mut self) -> Option<Vec<u8>> {
        (!self.seen.is_empty()).then(|| self.random.below(self.seen.len())).map(|at| self.seen[at].clone())
    }

    /// Alters bytes: one of them, their end, a field of another message, the version, or the signature to one of
    /// the stolen key.
    fn altered(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        let length = bytes.len();
        match self.random.below(7) {
            0 => bytes[self.random.below(length)] ^= 1 << self.random.below(8),
            1 => bytes.truncate(self.random.below(length) + 1),
            2 => {
                let other = self.some_seen().unwrap_or_default();
                bytes.extend(other);
            }
            3 => {
                // Fields begin at multiples of 16.
                let other = self.some_seen().unwrap_or_default();
                let [to, from] = [length, other.len()].map(|length| self.random.below(length / 16 + 1) * 16);
                let span = [16, 32, 64][self.random.below(3)];
                for (to, byte) in bytes.iter_mut().skip(to).zip(other.iter().skip(from)).take(span) {
                    *to = *byte;
                }
            }
            4 if length >= 33 + ITEM => {
                // Records of a list are dropped, repeated or exchanged.
                let records = (length - 33) / ITEM;
                let [to, from] = [0; 2].map(|_| 33 + self.random.below(records.max(1)) * ITEM);
                match self.random.one_in(2) {
                    true => drop(bytes.drain(to..to + ITEM)),
                    false => bytes.copy_within(from..from + ITEM, to),
                }
            }
            5 if length > 1 => bytes[1] = self.random.below(6) as u8,
            _ => {
                let endpoint = self.random.below(ENDPOINTS.len());
                if let Some(request) = bytes.first_chunk_mut::<PACKET_LEN>() {
                    request[1] = 4;
                    let key = &self.policies.agents[STOLEN][endpoint].key;
                    // Sometimes he leaves the name of the key, and hopes that nobody looks.
                    if self.random.one_in(2) {
                        request[112..128].copy_from_slice(&key.id().to_bytes());
                    }
                    key.mac_keys().sign(ENDPOINTS[endpoint], request);
                }
            }
        }
        bytes
    }

    /// What has to hold.
    fn check(&self) {
        let seed = self.seed;
        self.check_first_steps();
        let mut served = Vec::new();
        for daemon in &self.daemons {
            let Some(request) = &daemon.request else { continue };
            if !daemon.is_version_2() {
                assert!(!daemon.is_strict, "seed {seed}: a downgrade");
                continue;
            }
            if daemon.holder() == Some("node2") {
                continue;
            }
            let key = if daemon.holder().is_some() { NODE1 } else { SHARED };
            let asks = |agent: &&AgentSide| {
                !agent.is_old
                    && agent.key == key
                    && agent.endpoint == daemon.endpoint
                    && agent.packet.request == *request
                    && agent.accepted.as_ref().is_some_and(|got| got[..64] == daemon.sent[..64])
            };
            let asker = self.agents.iter().position(|agent| asks(&agent));
            let asker = asker.unwrap_or_else(|| panic!("seed {seed}: nobody asked for {request:?}"));
            assert!(!served.contains(&asker), "seed {seed}: {request:?} was carried out twice");
            served.push(asker);
        }
        for agent in self.agents.iter().filter(|agent| !agent.is_old && agent.key != STOLEN) {
            let (Some(answer), Some(got)) = (&agent.answer, &agent.accepted) else { continue };
            let gave = |daemon: &&DaemonSide| {
                daemon.endpoint == agent.endpoint
                    && daemon.request.as_ref() == Some(&agent.packet.request)
                    && daemon.answer.as_ref() == Some(answer)
                    && got[..64] == daemon.sent[..64]
            };
            assert!(self.daemons.iter().any(|daemon| gave(&daemon)), "seed {seed}: nobody gave {answer:?}");
        }
    }

    /// A daemon challenges only for requests that somebody with the key has made; an agent gives its proof only to a
    /// daemon that has the key and this request.
    fn check_first_steps(&self) {
        let seed = self.seed;
        let stolen = self.policies.agents[STOLEN][0].key.id().to_bytes();
        let challenged = |daemon: &&DaemonSide| daemon.is_version_2() && daemon.sent.len() >= 64;
        for daemon in self.daemons.iter().filter(challenged) {
            let request = &daemon.received[..PACKET_LEN];
            let is_stolen = request[112..128] == stolen;
            let is_asked = |agent: &AgentSide| !agent.is_old && agent.request == request;
            assert!(is_stolen || self.agents.iter().any(is_asked), "seed {seed}: a forged request");
        }
        for agent in self.agents.iter().filter(|agent| !agent.is_old && agent.key != STOLEN) {
            let Some(got) = &agent.accepted else { continue };
            let is_it = |daemon: &DaemonSide| {
                daemon.received.starts_with(&agent.request) && daemon.sent.get(..64) == Some(&got[..64])
            };
            assert!(self.daemons.iter().any(is_it), "seed {seed}: a proof for nobody");
        }
    }

    fn count(&self, tally: &mut Tally) {
        for daemon in &self.daemons {
            tally.refused += usize::from(daemon.misconduct.is_some());
            if daemon.request.is_none() {
                continue;
            }
            tally.carried_out += 1;
            tally.carried_out_with_the_stolen_key += usize::from(daemon.holder() == Some("node2"));
            tally.carried_out_by_version_1 += usize::from(!daemon.is_version_2());
        }
        tally.answered += self.agents.iter().filter(|agent| agent.answer.is_some()).count();
    }
}
