//! Requests of clients.

use fence_virt::fence::{Operation, Request, Target, UriIndex, Verdict};
use fence_virt::groups::PermittedNames;
use fence_virt::routing::{ClientId, ClientRequest};

use super::world::{Client, World};

impl World {
    pub fn ask(&mut self, at: usize, vm: Option<usize>, operation: Operation, by_uuid: bool) {
        let name = match vm {
            // The name may be another VM's UUID, or that of one that was created anew.
            Some(vm) if by_uuid || !self.has_name(vm) => self.vms[vm].uuid.to_string(),
            Some(vm) => self.vms[vm].name.clone(),
            None => "nosuch".to_owned(),
        };
        if let Some(vm) = vm.filter(|_| matches!(operation, Operation::Off | Operation::Reboot)) {
            self.doom(vm, 30_000);
            self.vms[vm].busy_until = self.now + 60_000;
        }
        self.next_client += 1;
        let client = ClientId(self.next_client);
        self.trace(|| format!("node {} is asked for {operation} {name}", self.nodes[at].id));
        let target = Target::new(name.as_bytes()).unwrap();
        let (asked, was_frozen) = (self.now, false);
        let Some(daemon) = self.daemon(at) else { return };
        daemon.clients.insert(client, Client { vm, operation, asked, was_frozen });
        daemon.asked.push((client, Request { operation, target, seqno: 7 }, asked));
    }

    /// Passes clients' requests to the router.
    pub fn take_requests(&mut self, at: usize) {
        let now = self.instant(self.now);
        let is_away = self.nodes[at].daemon.as_ref().is_some_and(|daemon| daemon.is_away(self.now));
        let asked = self.daemon(at).map(|daemon| std::mem::take(&mut daemon.asked));
        for (client, request, received) in asked.into_iter().flatten() {
            let received = self.instant(received);
            let name = request.target.as_str();
            let found = self.vm_of(at, name).and_then(|vm| self.local_vm(at, &self.vms[vm]));
            let Some(router) = self.router(at) else { return };
            if router.not_joined().is_none() && !router.knows(name) {
                if is_away {
                    // The backend refuses it.
                    self.answered(at, client, Verdict::Failure, "libvirt is away");
                    continue;
                }
                if let Some(found) = found {
                    router.find(UriIndex(0), found, now);
                }
            }
            router.ask(ClientRequest { client, request, permitted: PermittedNames::All, received }, now);
        }
    }

    pub fn answered(&mut self, at: usize, client: ClientId, verdict: Verdict, reason: &str) {
        if self.is_calm {
            self.verdicts.insert(client, verdict);
        }
        let client = self.daemon(at).and_then(|daemon| daemon.clients.remove(&client));
        let client = client.expect("each answer is for a client that waits");
        self.trace(|| {
            let vm = client.vm.map(|vm| &self.vms[vm].name);
            format!("node {} answers {} {vm:?}: {verdict}: {reason}", self.nodes[at].id, client.operation)
        });
        let name = match (verdict, client.vm.is_some()) {
            (Verdict::Success, _) => "success",
            (Verdict::Off, _) => "off",
            (_, true) => "failure",
            (_, false) => "failure, unknown",
        };
        *self.answers.entry(name).or_default() += 1;
        if !client.was_frozen {
            self.check_age(at, client.operation, self.now - client.asked);
        }
        if let Some(vm) = client.vm {
            self.check_off(at, vm, (client.operation, client.asked), (verdict, reason));
        }
    }
}
