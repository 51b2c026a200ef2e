use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};
use log::warn;

use super::calls::AgentCalls;
use super::host::AgentHost;
use super::link::{AgentCommand, AgentLink, AgentState};
use super::manager::AgentManager;
use super::place::PlaceLink;
use super::program::AgentProgram;
use crate::access::Permissions;
use crate::backend::libvirt::{self, Connected, ConnectionManagers, LibvirtBackend};
use crate::children::{ChildRunner, Children};
use crate::startup::{FirstAttempt, START_LIMIT, Startup, await_first};
use crate::status::UriState;
use crate::threads::join_by;
use fence_virt::config::AgentConfig;
use fence_virt::fence::UriIndex;
use fence_virt::sys::error_text;
use fence_virt::time::Instant;

/// First answer of an agent's monitor, with the name of its place.
type FirstMonitor = (String, Result<(), String>);

/// Threads of the agents.
pub(crate) struct AgentThreads {
    managers: Vec<(AgentLink, JoinHandle<()>)>,
    children: Children,
}

impl AgentThreads {
    /// Ends all calls of agents, and the threads, and waits for them until `deadline`.
    pub(crate) fn stop(self, deadline: Instant) {
        for (link, _) in &self.managers {
            // A full channel: its call ends now, and then its channel is closed.
            let _ = link.manager.try_send(AgentCommand::Stop);
        }
        drop(self.children);
        for (link, thread) in self.managers {
            drop(link);
            join_by(thread, deadline);
        }
    }

    /// Returns a closure that reports the state of the agents.
    pub(crate) fn reporter(&self) -> impl Fn() -> Vec<UriState> + Send + use<> {
        let links: Vec<AgentLink> = self.managers.iter().map(|(link, _)| link.clone()).collect();
        move || links.iter().map(|link| link.report(Instant::now())).collect()
    }
}

/// A backend with the threads of its places.
pub(crate) struct StartedPlaces {
    pub(crate) backend: LibvirtBackend<PlaceLink>,
    pub(crate) managers: ConnectionManagers,
    pub(crate) agents: AgentThreads,
}

/// Starts the threads of the URIs and of the agents, and waits for their first answers unless `wait_for_init` lets
/// those come later. Returns none if a stop signal came meanwhile.
/// Errors: an agent that cannot be used; a sentence for each place, if none answers.
pub(crate) fn start(
    uris: &[String],
    agents: &[AgentConfig],
    permissions: Permissions,
    startup: &Startup<'_>,
) -> Result<Option<StartedPlaces>, String> {
    let children = Children::start()?;
    let Some(programs) = load_all(agents, &children.runner(), startup)? else { return Ok(None) };
    let (first_sender, first) = bounded(agents.len());
    let mut managers = Vec::new();
    for ((number, config), program) in agents.iter().enumerate().zip(programs) {
        let at = UriIndex(uris.len() + number);
        let is_awaited = !startup.wait_for_init;
        let first = is_awaited.then(|| first_sender.clone());
        managers.push(start_agent(at, config, program, children.runner(), startup, first)?);
    }
    let Some(Connected { links, managers: connections, problem }) = libvirt::connect(uris, true, startup)?
    else {
        return Ok(None);
    };
    let agent_links = managers.iter().map(|(link, _)| PlaceLink::Agent(link.clone()));
    let are_several = links.len() + managers.len() > 1;
    for (link, _) in managers.iter().filter(|(link, _)| are_several && !link.host.has_list()) {
        warn!(
            "{}: the agent has no list, so it is asked for the VMs of all places: those that it does not know \
             cannot be fenced unless they are seen to run",
            link.name()
        );
    }
    let links: Vec<PlaceLink> = links.into_iter().map(PlaceLink::Uri).chain(agent_links).collect();
    let are_alone = uris.is_empty() || problem.is_some();
    if !startup.wait_for_init && !do_answer(agents, are_alone, &first, startup)? {
        return Ok(None);
    }
    if let Some(problem) = problem {
        warn!("{problem}: until libvirt is back, only VMs of agents can be fenced");
    }
    let backend = libvirt::backend(links, permissions, startup);
    let agents = AgentThreads { managers, children };
    Ok(Some(StartedPlaces { backend, managers: connections, agents }))
}

/// Checks all agents, at the same time. Returns none if a stop signal came meanwhile.
/// Errors: that of an agent that cannot be used.
fn load_all(
    agents: &[AgentConfig],
    runner: &ChildRunner,
    startup: &Startup<'_>,
) -> Result<Option<Vec<AgentProgram>>, String> {
    let (sender, loaded) = bounded(agents.len());
    for (number, config) in agents.iter().enumerate() {
        let (sender, config, runner) = (sender.clone(), config.clone(), runner.clone());
        let load = move || {
            // The start may have been interrupted.
            let _ = sender.send((number, AgentProgram::load(&config, &runner)));
        };
        let builder = thread::Builder::new().name("agent-load".into());
        builder.spawn(load).map_err(|error| format!("cannot start a thread: {}", error_text(&error)))?;
    }
    drop(sender);
    let mut programs: Vec<_> = agents.iter().map(|_| None).collect();
    while programs.iter().any(Option::is_none) {
        // The threads end in time: a program that tells no metadata is ended.
        let deadline = Instant::now() + START_LIMIT;
        match await_first(&loaded, deadline, startup.signals, "the metadata of fence agents")? {
            FirstAttempt::Made((number, program)) => {
                let program = program.map_err(|problem| format!("{}: {problem}", agents[number].place()))?;
                programs[number] = Some(program);
            }
            FirstAttempt::Interrupted => return Ok(None),
            FirstAttempt::TimedOut | FirstAttempt::ThreadEnded => {
                return Err("the fence agents tell no metadata in time".to_owned());
            }
        }
    }
    Ok(Some(programs.into_iter().flatten().collect()))
}

fn start_agent(
    at: UriIndex,
    config: &AgentConfig,
    program: AgentProgram,
    runner: ChildRunner,
    startup: &Startup<'_>,
    first: Option<Sender<FirstMonitor>>,
) -> Result<(AgentLink, JoinHandle<()>), String> {
    let place = config.place();
    let calls = AgentCalls::new(place.clone(), program, config.timeout, runner);
    let host = Arc::new(AgentHost::new(calls, config.list_interval, config.name.clone()));
    // The only VM of an agent is known without it: its name is ambiguous also while the agent hangs.
    let inventory = Some(host.listed()).filter(|_| !host.makes_lists());
    let state = Arc::new(Mutex::new(AgentState { inventory, ..AgentState::default() }));
    let (manager, commands) = bounded(1);
    let worker = startup.worker.clone();
    let max_parallel = config.max_parallel;
    let link = AgentLink {
        at,
        max_parallel,
        host: host.clone(),
        state: state.clone(),
        worker: worker.clone(),
        manager,
    };
    let manager = AgentManager { at, host, state, commands, worker, first };
    let thread = thread::Builder::new()
        .name(place)
        .spawn(move || manager.run())
        .map_err(|error| format!("cannot start a thread: {}", error_text(&error)))?;
    Ok((link, thread))
}

/// Waits for the first answer of each agent's monitor; false if a stop signal came meanwhile.
/// Errors: if none works, and no other place does.
fn do_answer(
    agents: &[AgentConfig],
    are_alone: bool,
    first: &Receiver<FirstMonitor>,
    startup: &Startup<'_>,
) -> Result<bool, String> {
    let deadline = Instant::now() + START_LIMIT;
    let mut missing: Vec<String> = agents.iter().map(AgentConfig::place).collect();
    let mut problems = Vec::new();
    while !missing.is_empty() {
        let (place, outcome) = match await_first(first, deadline, startup.signals, "fence agents")? {
            FirstAttempt::Made(first) => first,
            FirstAttempt::Interrupted => return Ok(false),
            FirstAttempt::TimedOut | FirstAttempt::ThreadEnded => break,
        };
        missing.retain(|name| *name != place);
        problems.extend(outcome.err().map(|reason| format!("{place}: {reason}")));
    }
    problems
        .extend(missing.iter().map(|place| format!("{place}: no answer within {} s", START_LIMIT.as_secs())));
    if problems.len() == agents.len() && are_alone {
        return Err(problems.join("; "));
    }
    for problem in problems {
        warn!("{problem}: until it works, none of its VMs can be fenced");
    }
    Ok(true)
}
