use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::geteuid;

use crate::children::{ChildRunner, RunEnd};
use fence_virt::config::AgentConfig;
use fence_virt::fence::printable;
use fence_virt::fence_agent::{AgentMetadata, AgentOption, ApiAction, Secrets, agent_input};
use fence_virt::sys::child::ChildUser;
use fence_virt::sys::error_text;

/// Time limit for the metadata: it needs no hypervisor.
const METADATA_LIMIT: Duration = Duration::from_secs(15);
/// Maximum length of a password, in bytes.
const PASSWORD_MAX: usize = 1024;

/// Program of an agent that can be used, with all that its calls need.
pub(crate) struct AgentProgram {
    pub(super) path: PathBuf,
    pub(super) user: Option<ChildUser>,
    /// Options of each call, with the password.
    pub(super) options: Vec<AgentOption>,
    pub(super) secrets: Secrets,
    pub(super) metadata: AgentMetadata,
}

impl AgentProgram {
    /// Checks an agent, reads its password and asks for its metadata.
    /// Errors: a sentence that says what is wrong, and what to do.
    pub(crate) fn load(config: &AgentConfig, runner: &ChildRunner) -> Result<AgentProgram, String> {
        let place = config.place();
        let failed = |reason: String| format!("{place}: {reason}");
        check_program(&config.program).map_err(failed)?;
        let user = config.user.as_deref().map(ChildUser::named).transpose();
        let user = user.map_err(|reason| failed(format!("{reason}: create it, or remove user")))?;
        let metadata = read_metadata(&config.program, user, runner)
            .map_err(|reason| failed(format!("{} cannot be used: {reason}", config.program.display())))?;
        let mut options = config.options.clone();
        let unknown = options.iter().find(|option| !metadata.has_option(&option.name));
        if let Some(AgentOption { name, .. }) = unknown {
            let program = config.program.display();
            return Err(failed(format!(
                "{program} has no option {name}: correct its name, or remove this option"
            )));
        }
        if let Some(path) = &config.password_file {
            let Some(name) = metadata.password_option() else {
                let program = config.program.display();
                return Err(failed(format!("{program} takes no password: remove password_file")));
            };
            let value = read_password(path).map_err(failed)?;
            options.push(AgentOption { name: name.to_owned(), value });
        }
        let secrets = Secrets::of(&options);
        Ok(AgentProgram { path: config.program.clone(), user, options, secrets, metadata })
    }
}

/// Checks that nobody but root and the daemon's user can replace a program.
fn check_program(path: &Path) -> Result<(), String> {
    let shown = path.display();
    let metadata = fs::metadata(path).map_err(|error| {
        format!(
            "cannot read {shown}: {}: install the package that has it, or correct program",
            error_text(&error)
        )
    })?;
    if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 {
        return Err(format!("{shown} is no program: correct program"));
    }
    if !is_ours(&metadata) || metadata.permissions().mode() & 0o022 != 0 {
        return Err(format!(
            "{shown} could be replaced by others: chown root {shown} and chmod go-w {shown}"
        ));
    }
    check_folders(path)
}

/// Checks that not everybody can rename the folders of a program, or what is in them.
fn check_folders(program: &Path) -> Result<(), String> {
    let path = program
        .canonicalize()
        .map_err(|error| format!("cannot read {}: {}", program.display(), error_text(&error)))?;
    for folder in path.ancestors().skip(1) {
        let shown = folder.display();
        let metadata =
            fs::metadata(folder).map_err(|error| format!("cannot read {shown}: {}", error_text(&error)))?;
        // With the sticky bit, only the owner of a file can.
        if metadata.permissions().mode() & 0o1002 == 0o0002 {
            return Err(format!(
                "{} could be replaced by others, who may write to {shown}: chmod o-w {shown}",
                program.display()
            ));
        }
    }
    Ok(())
}

/// True if a file is root's, or of this process's user.
fn is_ours(metadata: &Metadata) -> bool {
    metadata.uid() == 0 || metadata.uid() == geteuid().as_raw()
}

/// Reads a password: the first line of a file that nobody else can read.
/// Errors: a sentence that says what is wrong, and what to do.
pub(crate) fn read_password(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let failed = |error: io::Error| {
        let error = error_text(&error);
        format!(
            "cannot read the password in {shown}: {error}: write it there, with mode 0600, or correct password_file"
        )
    };
    let mut file = fs::File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.permissions().mode() & 0o7777;
    if !metadata.is_file() {
        return Err(format!("{shown} is no file"));
    }
    if !is_ours(&metadata) || mode & 0o077 != 0 {
        return Err(format!(
            "others can read or own the password in {shown} (mode {mode:04o}): chown root {shown} and chmod 0600 {shown}"
        ));
    }
    let mut text = String::new();
    file.by_ref().take(PASSWORD_MAX as u64 + 2).read_to_string(&mut text).map_err(failed)?;
    let line = text.lines().next().unwrap_or_default().trim();
    if line.is_empty() || line.len() > PASSWORD_MAX || line.chars().any(char::is_control) {
        return Err(format!("the first line of {shown} is no password of 1 to {PASSWORD_MAX} bytes"));
    }
    Ok(line.to_owned())
}

fn read_metadata(
    path: &Path,
    user: Option<ChildUser>,
    runner: &ChildRunner,
) -> Result<AgentMetadata, String> {
    let input = agent_input(ApiAction::Metadata, &[], None);
    let outcome = runner.run(path, user, input, METADATA_LIMIT)?;
    match outcome.end {
        RunEnd::Exited(0) => {}
        RunEnd::Late => return Err(format!("no metadata within {} s", METADATA_LIMIT.as_secs())),
        end => {
            let text = String::from_utf8_lossy(&outcome.stderr);
            let last = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
            return Err(format!("it tells no metadata ({}): {}", end, printable(last)));
        }
    }
    let text = String::from_utf8(outcome.stdout).map_err(|_| "its metadata is no UTF-8".to_owned())?;
    AgentMetadata::parse(&text).map_err(|error| error.to_string())
}
