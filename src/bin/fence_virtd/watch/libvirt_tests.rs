//! CIDs with libvirt's own test driver, in this process.

use std::thread;
use std::time::Duration;

use super::Watchers;
use crate::access::CidHolder;
use fence_virt::fence::{UriIndex, Uuid};
use fence_virt::time::Instant;

const A: &str = "aaaaaaaa-0000-4000-8000-000000000000";
const B: &str = "bbbbbbbb-0000-4000-8000-000000000000";

#[test]
fn the_table_has_the_cids_of_running_vms() {
    crate::libvirt::begin().unwrap();
    let domain = |name: &str, uuid: &str, cid: u32, state: u8| {
        format!(
            "<domain type='test'><name>{name}</name><uuid>{uuid}</uuid><memory>65536</memory><vcpu>1</vcpu>\
             <os><type>hvm</type></os><devices><vsock model='virtio'><cid auto='no' address='{cid}'/></vsock></devices>\
             <test:runstate xmlns:test='http://libvirt.org/schemas/domain/test/1.0'>{state}</test:runstate></domain>"
        )
    };
    let file = std::env::temp_dir().join(format!("fence-table-{}.xml", std::process::id()));
    let text = format!("<node>{}{}</node>", domain("a", A, 5, 1), domain("b", B, 6, 5));
    std::fs::write(&file, text).unwrap();
    let mut watchers = Watchers::default();
    let table = watchers.follow_cids(&[format!("test://{}", file.display())]).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while matches!(table.holder(6), CidHolder::Unknown(_)) && Instant::now() < deadline {
        thread::yield_now();
    }
    match table.holder(5) {
        CidHolder::Vm { uri: UriIndex(0), vm } => {
            assert_eq!((vm.domain.name.as_str(), vm.domain.uuid), ("a", Uuid::parse(A).unwrap()))
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(table.holder(6), CidHolder::Nobody, "b is off");
    watchers.stop(Instant::now() + Duration::from_secs(30));
    std::fs::remove_file(&file).unwrap();
}
