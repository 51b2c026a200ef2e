use super::*;
use crate::tools::finding::shown;
use fence_virt::fence::Uuid;

const UUID: &str = "11111111-aaaa-4111-8111-111111111111";

fn vm(name: &str, state: Option<PowerState>) -> AgentVm {
    AgentVm { name: name.to_owned(), uuid: place_uuid("agent:a", name), plug: name.to_owned(), state }
}

fn reply(files: Vec<Problem>, answers: Option<Result<AgentAnswers, Problem>>) -> AgentReply {
    let (place, program) = ("agent:a".to_owned(), "/sbin/fence_a".to_owned());
    AgentReply { place, program, limit: Duration::from_secs(20), files, answers }
}

fn answering(vms: Result<AgentVms, String>) -> AgentReply {
    reply(Vec::new(), Some(Ok(AgentAnswers { monitor: Ok(Duration::from_millis(70)), vms })))
}

fn judged(reply: AgentReply) -> Vec<(Level, String)> {
    shown(judge(&[reply]))
}

#[test]
fn an_agent_that_works_tells_its_vms_their_states_and_uuids() {
    let (on, off) = (Some(PowerState::Running), Some(PowerState::Off));
    let list = |vms: Vec<AgentVm>| judged(answering(Ok(AgentVms::Listed(vms, 0))));
    let found = list(vec![vm("x", on), vm("y", off)]);
    assert!(found.iter().all(|(level, _)| *level == Level::Ok), "{found:?}");
    assert!(found[0].1.starts_with("/sbin/fence_a can be used"), "{found:?}");
    assert_eq!(found[1].1, "monitor: success after 70 ms / ");
    assert!(found[2].1.starts_with("list: VMs: 2, running: 1; without UUIDs"), "{found:?}");
    let told = AgentVm { uuid: Uuid::parse(UUID).unwrap(), ..vm("x", None) };
    assert_eq!(list(vec![told.clone()])[2].1, "list: VMs: 1, without their states; with UUIDs / ");
    let text = "list: VMs: 2, running: 1, of unknown state: 1; 1 of them without UUIDs / ";
    assert_eq!(list(vec![told, vm("y", on)])[2].1, text);
}

#[test]
fn agents_without_a_list_with_one_vm_or_with_odd_ones() {
    let found = judged(answering(Ok(AgentVms::Unlisted)));
    assert!(found[2].0 == Level::Note && found[2].1.contains("has no list"), "{found:?}");
    let found = judged(answering(Ok(AgentVms::One(vm("x", Some(PowerState::Off))))));
    assert_eq!(found[2], (Level::Ok, "its only VM is \"x\": off / ".to_owned()));
    assert_eq!(judged(answering(Ok(AgentVms::Listed(Vec::new(), 0))))[2].0, Level::Note);
    let found = judged(answering(Ok(AgentVms::Listed(vec![vm("x", None)], 2))));
    assert!(found[3].0 == Level::Warning && found[3].1.starts_with("2 VMs of the list"), "{found:?}");
}

#[test]
fn an_agent_that_fails_is_an_error_once() {
    let problem = Problem::new("others can replace it", "chmod it");
    let found = judged(reply(vec![problem.clone()], None));
    assert_eq!(found[0], (Level::Error, "others can replace it / chmod it".to_owned()));
    assert!(found[1].0 == Level::Note && found[1].1.starts_with("not asked"), "{found:?}");
    assert_eq!(judged(reply(Vec::new(), Some(Err(problem))))[0].0, Level::Error);
    let answers = |monitor, vms| judged(reply(Vec::new(), Some(Ok(AgentAnswers { monitor, vms }))));
    let failed = || "no way".to_owned();
    let found = answers(Err(failed()), Err(failed()));
    assert!(found.len() == 2 && found[1].0 == Level::Error && found[1].1.starts_with("no way"), "{found:?}");
    let found = answers(Ok(Duration::from_secs(1)), Err(failed()));
    assert!(found.len() == 3 && found[2].0 == Level::Error, "{found:?}");
    let found = answers(Ok(SLOW), Ok(AgentVms::Unlisted));
    assert!(found[1].0 == Level::Warning && found[1].1.contains("after 10000 ms"), "{found:?}");
}

#[test]
fn places_of_agents_are_told_with_their_vms() {
    let vms = AgentVms::Listed(vec![vm("x", Some(PowerState::Running)), vm("y", None)], 0);
    let agents = [
        answering(Ok(vms)),
        answering(Ok(AgentVms::Unlisted)),
        answering(Err("no".to_owned())),
        reply(Vec::new(), None),
    ];
    let places = places(&agents);
    let runs: Vec<bool> = places[0].1.as_ref().unwrap().iter().map(|vm| vm.runs).collect();
    assert_eq!((places.len(), runs), (3, vec![true, false]));
    assert!(places[1].1.is_err() && places[2].1.is_err());
    assert_eq!(without_list(&agents), ["agent:a"]);
}
