//! Options that the programs report themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

use crate::common::{agent, daemon};

/// Program with options and a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    Daemon,
    Xvm,
    Virt,
}

/// Parameter of an agent's metadata.
pub struct Parameter {
    pub letter: Option<String>,
    pub default: Option<String>,
}

impl Program {
    pub const ALL: [Program; 3] = [Program::Daemon, Program::Xvm, Program::Virt];
    pub const AGENTS: [Program; 2] = [Program::Xvm, Program::Virt];

    pub fn name(self) -> &'static str {
        match self {
            Program::Daemon => "fence_virtd",
            Program::Xvm => "fence_xvm",
            Program::Virt => "fence_virt",
        }
    }

    pub fn page(self) -> &'static str {
        match self {
            Program::Daemon => "fence_virtd.8",
            Program::Xvm => "fence_xvm.8",
            Program::Virt => "fence_virt.8",
        }
    }

    pub fn run(self, args: &[&str]) -> Output {
        let path = if self == Program::Daemon { daemon::OURS } else { agent::OURS };
        Command::new(path).arg0(self.name()).args(args).output().unwrap()
    }

    fn says(self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{} {args:?}: {output:?}", self.name());
        String::from_utf8(output.stdout).unwrap()
    }

    /// Forms of each option, without the undocumented `-?`.
    pub fn options(self) -> BTreeSet<BTreeSet<String>> {
        let help = self.says(&["-h"]);
        let mut options: BTreeSet<BTreeSet<String>> = help.lines().filter_map(forms).collect();
        if self != Program::Daemon {
            // The help omits older names.
            options.extend(self.parameters().into_iter().map(|(name, parameter)| {
                let long = format!("--{}", name.replace('_', "-"));
                parameter.letter.into_iter().chain([long]).collect()
            }));
        }
        assert!(options.len() > 5, "{help}");
        options
    }

    /// Parameters of an agent's metadata, by their names on stdin.
    pub fn parameters(self) -> BTreeMap<String, Parameter> {
        let xml = self.says(&["-o", "metadata"]);
        let parameters = xml.split("<parameter ").skip(1).map(|text| {
            let letter = attribute(text, "mixed").filter(|letter| !letter.is_empty());
            let parameter = Parameter { letter, default: attribute(text, "default") };
            (attribute(text, "name").unwrap(), parameter)
        });
        parameters.collect()
    }

    /// Actions of an agent's metadata.
    pub fn actions(self) -> BTreeSet<String> {
        let xml = self.says(&["-o", "metadata"]);
        xml.split("<action ").skip(1).filter_map(|text| attribute(text, "name")).collect()
    }
}

fn attribute(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("{name}=\""))?;
    Some(rest.split('"').next()?.to_owned())
}

/// Forms in a line of help such as `  -f, --config <file>   read <file>`.
fn forms(line: &str) -> Option<BTreeSet<String>> {
    let text = line.trim_start();
    let indent = line.len() - text.len();
    if !text.starts_with('-') || !(2..=6).contains(&indent) {
        return None;
    }
    let left = text.split("  ").next()?;
    let form = |word: &str| word.split([' ', '[', '=']).next().unwrap_or_default().to_owned();
    Some(left.split(", ").map(form).filter(|form| form != "-?").collect())
}
