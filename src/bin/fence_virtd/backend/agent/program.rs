use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::geteuid;

use crate::access::{credentials, key_file};
use crate::children::{ChildRunner, RunEnd};
use crate::problem::Problem;
use fence_virt::config::AgentConfig;
use fence_virt::fence::{listed, printable};
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
    /// Errors: what is wrong, and what to do.
    pub(crate) fn load(config: &AgentConfig, runner: &ChildRunner) -> Result<AgentProgram, Problem> {
        let own_uid = geteuid().as_raw();
        check_program(&config.program, own_uid)?;
        let user = find_user(config)?;
        let program = config.program.display();
        let metadata = read_metadata(&config.program, user, runner).map_err(|reason| {
            Problem::new(format!("{program} cannot be used: {reason}"), "correct program")
        })?;
        let mut options = config.options.clone();
        let unknown = options.iter().filter(|option| !metadata.has_option(&option.name));
        let unknown = listed(unknown.map(|option| &option.name));
        if !unknown.is_empty() {
            let remedy = "correct the lines option: `-o metadata` of the agent names its options";
            return Err(Problem::new(format!("{program} has no option {unknown}"), remedy));
        }
        if let Some(path) = &config.password_file {
            let Some(name) = metadata.password_option() else {
                return Err(Problem::new(format!("{program} takes no password"), "remove password_file"));
            };
            let value = read_password(path, own_uid)?;
            options.push(AgentOption { name: name.to_owned(), value });
        }
        if metadata.plug_option().is_none() && config.name.is_none() {
            let remedy = "write its name, as agent = \"NAME-OF-THE-VM\" { ... }";
            return Err(Problem::new(format!("{program} fences one VM only"), remedy));
        }
        let secrets = Secrets::of(&options);
        Ok(AgentProgram { path: config.program.clone(), user, options, secrets, metadata })
    }
}

/// Checks the program, the user and the password file of an agent without starting it, for a daemon with this user id.
/// A credential of a unit that does not run is not checked. Returns what is wrong.
pub(crate) fn check_files(config: &AgentConfig, uid: u32) -> Vec<Problem> {
    let file = config.password_file.as_deref().filter(|path| !key_file::is_out_of_reach(path));
    let password = file.map_or(Ok(()), |path| read_password(path, uid).map(drop));
    let checks = [check_program(&config.program, uid), find_user(config).map(drop), password];
    checks.into_iter().filter_map(Result::err).collect()
}

fn find_user(config: &AgentConfig) -> Result<Option<ChildUser>, Problem> {
    let user = config.user.as_deref().map(ChildUser::named).transpose();
    user.map_err(|reason| Problem::new(reason, "create it, or remove user"))
}

/// Checks that nobody but root and the daemon's user can replace a program.
fn check_program(path: &Path, uid: u32) -> Result<(), Problem> {
    let shown = path.display();
    let metadata = fs::metadata(path).map_err(|error| {
        let what = format!("cannot read {shown}: {}", error_text(&error));
        Problem::new(what, "install the package that has it, or correct program")
    })?;
    if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 {
        return Err(Problem::new(format!("{shown} is no program"), "correct program"));
    }
    match exposed(path, uid) {
        None => Ok(()),
        Some(exposed) => {
            let exposed = exposed.display();
            let what = format!("{shown} could be replaced by others, by the mode or owner of {exposed}");
            Err(Problem::new(what, format!("chown root {exposed} and chmod go-w {exposed}")))
        }
    }
}

/// Returns the file, or the directory on the way to it, that others can change.
fn exposed(path: &Path, uid: u32) -> Option<PathBuf> {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let is_exposed = |path: &&Path| {
        fs::metadata(path).map_or(true, |metadata| {
            let mode = metadata.permissions().mode();
            // In a directory like /tmp nobody replaces what belongs to another user.
            let is_sticky = metadata.is_dir() && mode & 0o1000 != 0;
            !is_ours(&metadata, uid) || (mode & 0o022 != 0 && !is_sticky)
        })
    };
    path.ancestors().find(is_exposed).map(Path::to_owned)
}

/// True if a file is root's, or of the daemon's user.
fn is_ours(metadata: &Metadata, uid: u32) -> bool {
    metadata.uid() == 0 || metadata.uid() == uid
}

/// Reads a password: the first line of a file that nobody but the daemon's user and root can read.
/// Errors: what is wrong, and what to do.
fn read_password(path: &Path, uid: u32) -> Result<String, Problem> {
    let shown = path.display();
    let failed = |error: io::Error| {
        let what = format!("cannot read the password in {shown}: {}", error_text(&error));
        Problem::new(
            what,
            "write it there, with mode 0600, or correct password_file; a credential exists only while its unit runs",
        )
    };
    let mut file = fs::File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.permissions().mode() & 0o7777;
    if !metadata.is_file() {
        return Err(Problem::new(format!("{shown} is no file"), "correct password_file"));
    }
    // systemd gives credentials to a service by other means than their owner and mode.
    let directory = credentials::unit_directory(path).or_else(credentials::directory);
    let is_credential =
        directory.map(|directory| credentials::holds(&directory, path)).transpose()? == Some(true);
    if !is_credential && (!is_ours(&metadata, uid) || mode & 0o077 != 0) {
        let owner = if uid == 0 { "root".to_owned() } else { uid.to_string() };
        let what = format!("others can read or own the password in {shown} (mode {mode:04o})");
        return Err(Problem::new(what, format!("chown {owner} {shown} and chmod 0600 {shown}")));
    }
    if !is_credential && uid != 0 && metadata.uid() != uid {
        let what = format!("the daemon (user id {uid}) cannot read the password in {shown}, which is root's");
        return Err(Problem::new(what, format!("chown {uid} {shown}")));
    }
    let mut text = String::new();
    file.by_ref().take(PASSWORD_MAX as u64 + 2).read_to_string(&mut text).map_err(failed)?;
    let line = text.lines().next().unwrap_or_default().trim();
    if line.is_empty() || line.len() > PASSWORD_MAX || line.chars().any(char::is_control) {
        let what = format!("the first line of {shown} is no password of 1 to {PASSWORD_MAX} bytes");
        return Err(Problem::new(what, "write the password there, alone in its line"));
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
            return Err(format!("it tells no metadata ({end}): {}", printable(last)));
        }
    }
    let text = String::from_utf8(outcome.stdout).map_err(|_| "its metadata is no UTF-8".to_owned())?;
    AgentMetadata::parse(&text).map_err(|error| error.to_string())
}
