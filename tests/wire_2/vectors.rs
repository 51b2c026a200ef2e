//! Test vectors of the document, which the reference implementation has made.

use std::collections::HashMap;
use std::sync::Arc;

use fence_virt::auth::{HashKind, Key};
use fence_virt::fence::{
    Answer, Carrier, Endpoint, HostEntry, Operation, PowerState, Request, SignatureKind, Target, Verdict,
};
use fence_virt::session::{AgentSession, ClientSession, Policy, ServerSession, SessionEvent};
use fence_virt::time::Instant;
use fence_virt::wire::{PACKET_LEN, Packet, Signature};

const DOCUMENT: &str = include_str!("../../docs/WIRE-2.md");

/// Block of the document with the vectors.
pub fn block() -> &'static str {
    let (_, rest) = DOCUMENT.split_once("```text\n").expect("the document has a block of vectors");
    rest.split_once("```").expect("the block ends").0
}

/// Vectors of one exchange.
struct Vector {
    title: String,
    fields: HashMap<String, Vec<u8>>,
}

impl Vector {
    fn all() -> Vec<Vector> {
        let sections = block().split('[').skip(1);
        sections.map(Vector::parse).collect()
    }

    fn parse(section: &str) -> Vector {
        let (title, lines) = section.split_once("]\n").unwrap();
        let field = |line: &str| {
            let (name, value) = line.split_once(" =").unwrap();
            (name.to_owned(), bytes(value.trim()))
        };
        let lines = lines.lines().filter(|line| !line.is_empty());
        Vector { title: title.to_owned(), fields: lines.map(field).collect() }
    }

    fn get(&self, name: &str) -> &[u8] {
        self.fields.get(name).unwrap_or_else(|| panic!("{}: no {name}", self.title))
    }

    fn array<const N: usize>(&self, name: &str) -> [u8; N] {
        self.get(name).try_into().unwrap_or_else(|_| panic!("{}: {name}", self.title))
    }

    fn text(&self, name: &str) -> String {
        String::from_utf8(self.get(name).to_vec()).unwrap()
    }

    fn endpoint(&self) -> Endpoint {
        let carrier =
            [Carrier::Multicast, Carrier::Tcp, Carrier::Vsock][usize::from(self.get("transport")[0]) - 1];
        Endpoint { carrier, port: u32::from_le_bytes(self.array("port")) }
    }

    fn policy(&self, hash: SignatureKind) -> Arc<Policy> {
        let key = Key::new(self.get("key").to_vec());
        Arc::new(Policy::new(hash, HashKind::Sha256, key, self.endpoint()))
    }

    fn packet(&self) -> Packet {
        let zeros = Packet::decode(&[0; PACKET_LEN]).unwrap();
        let mut address = [0; 28];
        let given = self.get("address");
        address[..given.len()].copy_from_slice(given);
        let key = Key::new(self.get("key").to_vec()).id();
        Packet {
            request: Request {
                operation: Operation::from_wire(self.get("operation")[0]).unwrap(),
                target: Target::new(self.get("name")).unwrap(),
                seqno: u32::from_le_bytes(self.array("number")),
            },
            signature: Signature::without_mac(key, self.array("agent_nonce")),
            address_len: u8::try_from(given.len()).unwrap(),
            address,
            port: u16::from_le_bytes(self.array("callback_port")),
            random: self.array("salt"),
            family: u32::from_le_bytes(self.array("family")),
            ..zeros
        }
    }

    fn answer(&self) -> Answer {
        let operation = self.packet().request.operation;
        if self.get("code") != [253] {
            return Verdict::from_wire(self.get("code")[0], operation).unwrap().into();
        }
        let entry = |at: usize| {
            let state = self.fields.get(&format!("state_{at}"))?;
            let state = if state == &[5] { PowerState::Off } else { PowerState::Running };
            let [name, uuid] = ["name", "uuid"].map(|field| self.text(&format!("{field}_{at}")));
            Some(HostEntry { name, uuid, state })
        };
        Answer::HostList((1..).map_while(entry).collect())
    }
}

fn bytes(text: &str) -> Vec<u8> {
    if text == "00..ff repeated to 4096" {
        return (0..=255).cycle().take(4096).collect();
    }
    let digits = text.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[test]
fn the_agent_sends_and_takes_what_the_vectors_say() {
    let vectors = Vector::all();
    assert!(vectors.len() >= 5, "{}", vectors.len());
    for vector in &vectors {
        let title = &vector.title;
        let policy = vector.policy(SignatureKind::HmacSha256);
        assert_eq!(policy.key.id().to_bytes(), vector.array::<16>("id"), "{title}");
        assert_eq!(vector.endpoint().encode(), vector.array::<17>("endpoint"), "{title}");
        let packet = vector.packet();
        assert_eq!(policy.sign(&packet).as_slice(), vector.get("request"), "{title}");
        let operation = packet.request.operation;
        let mut session = if packet.asks_for_callback() {
            ClientSession::called_back(policy, operation, &[packet], [7; 64])
        } else {
            ClientSession::opening(policy, &packet, [7; 64])
        };
        session.sent(session.output().len());
        assert_eq!(session.receive(&mut vector.get("challenge")), Ok(None), "{title}");
        assert_eq!(session.output(), vector.get("proof"), "{title}");
        session.sent(session.output().len());
        assert_eq!(session.receive(&mut vector.get("answer")), Ok(Some(vector.answer())), "{title}");
    }
}

#[test]
fn the_daemon_sends_and_takes_what_the_vectors_say() {
    for vector in Vector::all() {
        let title = &vector.title;
        let policy = vector.policy(HashKind::Sha256.into());
        let now = Instant::now();
        let nonce = vector.array("daemon_nonce");
        let mut session = match vector.endpoint().carrier {
            Carrier::Multicast => {
                let checked = policy.check(&vector.array("request")).unwrap();
                ServerSession::called_back(policy, nonce, &checked, now)
            }
            _ => {
                let mut session = ServerSession::accepted(policy, nonce, now);
                let event = session.receive(&mut vector.get("request"));
                assert!(matches!(event, Ok(Some(SessionEvent::Requested(..)))), "{title}: {event:?}");
                session
            }
        };
        assert_eq!(session.receive(&mut [].as_slice()), Ok(None), "{title}");
        assert_eq!(session.output(), vector.get("challenge"), "{title}");
        session.sent(64);
        let event = session.receive(&mut vector.get("proof"));
        let Ok(Some(SessionEvent::Authenticated(request, _))) = event else { panic!("{title}: {event:?}") };
        assert_eq!(request, vector.packet().request, "{title}");
        session.answer(&vector.answer(), now);
        assert_eq!(session.output(), vector.get("answer"), "{title}");
    }
}
