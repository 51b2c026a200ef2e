//! Agents and daemons with what they have sent, received and concluded.

use std::sync::Arc;

use fence_virt::auth::{HashKind, Key, KeyRing, MacKeys, VmKey};
use fence_virt::fence::{
    Answer, Carrier, Endpoint, HostEntry, KeyHolder, Operation, PowerState, Request, SignatureKind, Target,
    Verdict,
};
use fence_virt::session::{AgentSession, ClientSession, Misconduct, Policy, ServerSession, SessionEvent};
use fence_virt::time::Instant;
use fence_virt::wire::{FAMILY_IPV4, PACKET_LEN, Packet, Signature};

/// Keys of the runs, by number.
pub const SHARED: usize = 0;
pub const NODE1: usize = 1;
/// The attacker has it: root in the VM node2.
pub const STOLEN: usize = 2;

/// Listeners of each host.
pub const ENDPOINTS: [Endpoint; 4] = [
    Endpoint { carrier: Carrier::Tcp, port: 1229 },
    Endpoint { carrier: Carrier::Tcp, port: 1230 },
    Endpoint { carrier: Carrier::Vsock, port: 1229 },
    Endpoint { carrier: Carrier::Multicast, port: 1229 },
];

fn bytes(key: usize) -> Vec<u8> {
    vec![b'a' + u8::try_from(key).unwrap(); 64]
}

/// Policies, which are made once: keys are expensive.
pub struct Policies {
    /// By key and endpoint.
    pub agents: Vec<Vec<Arc<Policy>>>,
    /// Of agents of version 1, with the shared key, by endpoint.
    pub old_agents: Vec<Arc<Policy>>,
    /// By endpoint: with a minimum of version 1 and of version 2.
    pub daemons: Vec<[Arc<Policy>; 2]>,
}

impl Policies {
    pub fn new() -> Policies {
        let holders = [(NODE1, "node1"), (STOLEN, "node2")];
        let mut ring = KeyRing::default();
        for (key, name) in holders {
            let mac_keys = Arc::new(MacKeys::derive(&bytes(key)));
            let holder = Arc::new(KeyHolder { name: name.into(), uuid: None, key: mac_keys.id() });
            assert_eq!(ring.insert(VmKey { holder, mac_keys }), None);
        }
        let ring = Arc::new(ring);
        let policy = |hash: SignatureKind, key, endpoint| {
            Policy::new(hash, HashKind::Sha256, Key::new(bytes(key)), endpoint)
        };
        let new = SignatureKind::HmacSha256;
        let old = SignatureKind::Hash(HashKind::Sha256);
        let daemon =
            |hash, endpoint| Arc::new(Policy { vm_keys: ring.clone(), ..policy(hash, SHARED, endpoint) });
        let agents_with = |key| ENDPOINTS.map(|endpoint| Arc::new(policy(new, key, endpoint))).to_vec();
        Policies {
            agents: [SHARED, NODE1, STOLEN].map(agents_with).to_vec(),
            old_agents: ENDPOINTS.map(|endpoint| Arc::new(policy(old, SHARED, endpoint))).to_vec(),
            daemons: ENDPOINTS.map(|endpoint| [daemon(old, endpoint), daemon(new, endpoint)]).to_vec(),
        }
    }
}

/// Agent with one request; by multicast, each call-back is a session of its own until one has been chosen.
pub struct AgentSide {
    pub key: usize,
    pub endpoint: usize,
    pub is_old: bool,
    pub packet: Packet,
    /// The packet, signed: what it sends first.
    pub request: [u8; PACKET_LEN],
    policy: Arc<Policy>,
    sessions: Vec<(ClientSession, Vec<u8>)>,
    /// What it has received, once it has given its proof.
    pub accepted: Option<Vec<u8>>,
    pub answer: Option<Answer>,
    pub is_over: bool,
}

impl AgentSide {
    pub fn new(policy: &Arc<Policy>, key: usize, endpoint: usize, seqno: u32, nonce: [u8; 16]) -> AgentSide {
        let operation = [Operation::Off, Operation::Status, Operation::HostList][seqno as usize % 3];
        let target = Target::new(format!("vm{}", seqno % 4).as_bytes()).unwrap();
        let request = Request { operation, target, seqno };
        let is_old = policy.hash < SignatureKind::HmacSha256;
        let signature = match policy.hash {
            SignatureKind::Hash(hash) => Signature::unsigned(hash),
            SignatureKind::HmacSha256 => Signature::without_mac(policy.key.id(), nonce),
        };
        let mut packet = Packet { request, signature, ..Packet::decode(&[0; PACKET_LEN]).unwrap() };
        if is_multicast(endpoint) {
            packet = Packet { address_len: 4, family: FAMILY_IPV4, port: 1229, ..packet };
            packet.address[..4].copy_from_slice(&[192, 0, 2, 7]);
        }
        let mut agent = AgentSide {
            key,
            endpoint,
            is_old,
            request: policy.sign(&packet),
            packet,
            policy: policy.clone(),
            sessions: Vec::new(),
            accepted: None,
            answer: None,
            is_over: false,
        };
        if !is_multicast(endpoint) {
            let session = ClientSession::opening(policy.clone(), &agent.packet, challenge(nonce));
            agent.sessions.push((session, Vec::new()));
        }
        agent
    }

    /// Somebody calls back.
    pub fn call(&mut self, nonce: [u8; 16]) {
        if self.accepted.is_none() && self.sessions.len() < 4 {
            let packets = std::slice::from_ref(&self.packet);
            let operation = self.packet.request.operation;
            let session =
                ClientSession::called_back(self.policy.clone(), operation, packets, challenge(nonce));
            self.sessions.push((session, Vec::new()));
        }
    }

    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Takes what a session sends.
    pub fn take(&mut self, at: usize) -> Vec<u8> {
        let Some((session, _)) = self.sessions.get_mut(at) else { return Vec::new() };
        let sent = session.output().to_vec();
        session.sent(sent.len());
        sent
    }

    /// Gives bytes to a session. The first that is committed is the only one from then on.
    pub fn give(&mut self, at: usize, input: &[u8]) {
        let Some((session, received)) = self.sessions.get_mut(at) else { return };
        received.extend_from_slice(input);
        match session.receive(&mut &*input) {
            Ok(answer) => {
                if session.is_committed() && self.accepted.is_none() {
                    self.accepted = Some(received.clone());
                    let chosen = self.sessions.swap_remove(at);
                    self.sessions = vec![chosen];
                }
                if answer.is_some() {
                    self.answer = answer;
                    self.is_over = true;
                    self.sessions.clear();
                }
            }
            Err(_) => {
                drop(self.sessions.remove(at));
                self.is_over |= !is_multicast(self.endpoint) || self.accepted.is_some();
            }
        }
    }
}

/// Session of a daemon.
pub struct DaemonSide {
    pub endpoint: usize,
    /// True if it takes version 2 alone.
    pub is_strict: bool,
    machine: ServerSession,
    pub sent: Vec<u8>,
    pub received: Vec<u8>,
    /// Request that it carries out.
    pub request: Option<Request>,
    pub answer: Option<Answer>,
    pub misconduct: Option<Misconduct>,
}

impl DaemonSide {
    /// Accepts a connection.
    pub fn accept(policies: &Policies, endpoint: usize, is_strict: bool, nonce: [u8; 32]) -> DaemonSide {
        let policy = policies.daemons[endpoint][usize::from(is_strict)].clone();
        DaemonSide::with(ServerSession::accepted(policy, nonce, Instant::now()), endpoint, is_strict)
    }

    /// Calls back for a datagram, if its signature is sufficient.
    pub fn call_back(
        policies: &Policies,
        endpoint: usize,
        is_strict: bool,
        nonce: [u8; 32],
        datagram: &[u8; PACKET_LEN],
    ) -> Option<DaemonSide> {
        let policy = policies.daemons[endpoint][usize::from(is_strict)].clone();
        let checked = policy.check(datagram).ok()?;
        checked.packet.callback(1).ok()?;
        let machine = ServerSession::called_back(policy, nonce, &checked, Instant::now());
        let mut daemon = DaemonSide::with(machine, endpoint, is_strict);
        daemon.received = datagram.to_vec();
        daemon.give(&[]);
        Some(daemon)
    }

    fn with(machine: ServerSession, endpoint: usize, is_strict: bool) -> DaemonSide {
        DaemonSide {
            endpoint,
            is_strict,
            machine,
            sent: Vec::new(),
            received: Vec::new(),
            request: None,
            answer: None,
            misconduct: None,
        }
    }

    /// VM whose own key has been proven.
    pub fn holder(&self) -> Option<&str> {
        self.machine.holder().map(|holder| holder.name.as_str())
    }

    /// True if the request is one of version 2.
    pub fn is_version_2(&self) -> bool {
        self.received.get(1) == Some(&4)
    }

    pub fn take(&mut self) -> Vec<u8> {
        let sent = self.machine.output().to_vec();
        self.machine.sent(sent.len());
        self.sent.extend_from_slice(&sent);
        sent
    }

    /// Gives it bytes; it carries out a request that is proven, and answers it in a way that tells daemons apart.
    pub fn give(&mut self, mut input: &[u8]) {
        if self.misconduct.is_some() {
            return;
        }
        self.received.extend_from_slice(input);
        loop {
            match self.machine.receive(&mut input) {
                Ok(None) => return,
                Ok(Some(SessionEvent::Requested(..))) => {}
                Ok(Some(SessionEvent::Authenticated(request, _))) => {
                    let answer = self.answer_to(&request);
                    self.machine.answer(&answer, Instant::now());
                    assert_eq!(self.request.replace(request), None, "carried out twice");
                    self.answer = Some(answer);
                }
                Err(misconduct) => {
                    self.misconduct = Some(misconduct);
                    return;
                }
            }
        }
    }

    fn answer_to(&self, request: &Request) -> Answer {
        let salt = self.sent.first().copied().unwrap_or_default();
        match request.operation {
            Operation::HostList => {
                let entry = |at: u8| HostEntry {
                    name: format!("vm{salt}-{at}"),
                    uuid: format!("u{at}"),
                    state: if at % 2 == 0 { PowerState::Off } else { PowerState::Running },
                };
                Answer::HostList((0..salt % 5).map(entry).collect())
            }
            Operation::Status => [Verdict::Success, Verdict::Off][usize::from(salt % 2)].into(),
            _ => [Verdict::Success, Verdict::Failure][usize::from(salt % 2)].into(),
        }
    }
}

pub fn is_multicast(endpoint: usize) -> bool {
    ENDPOINTS[endpoint].carrier == Carrier::Multicast
}

/// Challenge of version 1.
fn challenge(nonce: [u8; 16]) -> [u8; 64] {
    std::array::from_fn(|at| nonce[at % 16])
}
