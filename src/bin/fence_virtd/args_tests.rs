use super::*;
use crate::usage::USAGE;
use fence_virt::restraints::{HoldReason, HoldSubject, HoldTime};
use std::path::Path;

fn command_line(line: &str) -> Result<DaemonCommand, String> {
    parse(line.split_whitespace().map(OsString::from))
}

fn parsed(line: &str) -> Result<Invocation, String> {
    command_line(line).map(|parsed| parsed.invocation)
}

#[test]
fn short_and_long_forms_mean_the_same() {
    let short = parsed("-F -f a.conf -d99 -w -p a.pid").unwrap();
    let long = parsed("--foreground --config a.conf --debug=99 --wait-for-init --pid-file a.pid").unwrap();
    assert_eq!(short, long);
    let Invocation::Run(options) = short else { panic!("{short:?}") };
    assert_eq!((options.debug, options.foreground, options.wait_for_init), (Some(99), true, true));
    let check = |config: &str, pid_file: &str, is_lenient| {
        Ok(Invocation::Check { config: config.into(), pid_file: pid_file.into(), is_lenient })
    };
    assert_eq!(parsed("-t -f x -p y"), check("x", "y", false));
    assert_eq!(parsed("--check"), check(DEFAULT_CONFIG, crate::pid_file::DEFAULT, false));
    assert_eq!(parsed("--lenient -p y --check"), check(DEFAULT_CONFIG, "y", true));
    let status = |output| Ok(Invocation::Status { config: "x".into(), output });
    assert_eq!(parsed("--status -f x"), status(StatusOutput::Once(Form::Text)));
    assert_eq!(parsed("--json --status -f x"), status(StatusOutput::Once(Form::Json)));
    assert_eq!(parsed("--status --watch -f x"), status(StatusOutput::Watch(Form::Text)));
    let textfile = || status(StatusOutput::Textfile("/m.prom".into()));
    assert_eq!(parsed("--status --textfile /m.prom -f x"), textfile());
    assert_eq!(parsed("--status --openmetrics --textfile=/m.prom -f x"), textfile());
    let history = |form, vm: Option<&str>| {
        Ok(Invocation::History { config: "x".into(), form, vm: vm.map(str::to_owned) })
    };
    assert_eq!(parsed("--history -f x"), history(HistoryForm::Text, None));
    assert_eq!(parsed("-f x --json --vm node1 --history"), history(HistoryForm::Json, Some("node1")));
    let explain = |operation| {
        let (requester, vm) = ("192.0.2.7".into(), "node1".into());
        Ok(Invocation::Explain { config: "x".into(), requester, vm, operation })
    };
    assert_eq!(parsed("--explain 192.0.2.7 node1 -f x"), explain(None));
    let listing = "--explain 192.0.2.7 node1 --operation List -f x";
    assert_eq!(parsed(listing), explain(Some(Operation::HostList)));
    let doctor = |is_json, errors_only| {
        Ok(Invocation::Doctor { config: "x".into(), pid_file: "y".into(), is_json, errors_only })
    };
    assert_eq!(parsed("--doctor -f x -p y"), doctor(false, false));
    assert_eq!(parsed("--json --doctor -f x -p y --errors-only"), doctor(true, true));
    let self_test = |vm: Option<&str>, is_confirmed| {
        Ok(Invocation::SelfTest { config: "x".into(), key: None, vm: vm.map(str::to_owned), is_confirmed })
    };
    let with_key =
        Invocation::SelfTest { config: "x".into(), key: Some("/k".into()), vm: None, is_confirmed: false };
    assert_eq!(parsed("--self-test --key /k -f x"), Ok(with_key));
    let add_key = |uuid: Option<&str>| {
        let (vm, uuid) = ("node1".to_owned(), uuid.map(str::to_owned));
        Ok(Invocation::AddKey { config: "x".into(), pid_file: "y".into(), vm, uuid })
    };
    assert_eq!(parsed("--add-key node1 -f x -p y"), add_key(None));
    assert_eq!(parsed("--uuid U -f x -p y --add-key=node1"), add_key(Some("U")));
    assert_eq!(parsed("--self-test -f x"), self_test(None, false));
    assert_eq!(parsed("-f x --fence node1 --self-test"), self_test(Some("node1"), false));
    assert_eq!(parsed("--self-test --yes --fence node1 -f x"), self_test(Some("node1"), true));
    assert_eq!(parsed("-c -f x"), Ok(Invocation::Setup("x".into())));
    assert_eq!(parsed("--configure"), Ok(Invocation::Setup(DEFAULT_CONFIG.into())));
    assert_eq!(parsed("--reload -F -w -f x"), Ok(Invocation::Reload("x".into())));
    let (time, reason) = (HoldTime::parse("30m").unwrap(), HoldReason::new("move").unwrap());
    let subject = || HoldSubject::new("node1").unwrap();
    let hold = |change| Ok(Invocation::Hold { config: "x".into(), change });
    let place = HoldChange::Place { subject: subject(), reason, time };
    assert_eq!(parsed("--hold node1 --for 30m --reason move -F -w -f x"), hold(place));
    assert_eq!(parsed("-f x --release node1"), hold(HoldChange::Release(subject())));
    assert_eq!(parsed("-l"), Ok(Invocation::List));
    assert_eq!(parsed("-V"), Ok(Invocation::Version));
    assert_eq!(parsed("-h"), Ok(Invocation::Help));
}

#[test]
fn wrong_arguments_are_named() {
    assert!(parsed("--nonsense").unwrap_err().contains("nonsense"));
    assert!(parsed("-d many").unwrap_err().contains("number"));
    assert!(parsed("stray").unwrap_err().contains("stray"));
    assert!(parsed("-f").is_err());
    assert!(parsed("--log xml").unwrap_err().contains("text or json"));
    assert!(parsed("--json").unwrap_err().contains("--status"));
    for line in ["--lenient", "--doctor --lenient", "-F --lenient"] {
        assert!(parsed(line).unwrap_err().contains("--check"), "{line}");
    }
    for line in ["--watch", "--textfile a", "--history --watch"] {
        assert!(parsed(line).unwrap_err().contains("requires --status"), "{line}");
    }
    for line in ["--textfile a --watch", "--textfile a --json", "--watch --openmetrics"] {
        let refused = parsed(&format!("--status {line}"));
        assert!(refused.unwrap_err().contains("cannot be combined"), "{line}");
    }
    assert!(parsed("--vm a --status").unwrap_err().contains("--history"));
    for line in ["--history --openmetrics", "--doctor --openmetrics"] {
        assert!(parsed(line).unwrap_err().contains("requires --status"), "{line}");
    }
    assert!(parsed("--errors-only --check").unwrap_err().contains("requires --doctor"));
    assert!(parsed("--fence a --doctor").unwrap_err().contains("requires --self-test"));
    for line in ["--uuid a", "--uuid a --check"] {
        assert!(parsed(line).unwrap_err().contains("--uuid requires --add-key"), "{line}");
    }
    assert!(parsed("--key a --status").unwrap_err().contains("requires --self-test"));
    assert!(parsed("--self-test --yes").unwrap_err().contains("requires --fence"));
    for (line, words) in [
        ("--hold a --reason b", "--hold requires --for, such as --for 30m"),
        ("--hold a --for 30m", "--hold requires --reason"),
        ("--hold a --for 8d --reason b", "--for: a hold lasts 1s to 7d"),
        ("--hold a --for soon --reason b", "--for: a hold lasts 1s to 7d"),
        ("--hold", "missing argument"),
        ("--release a --for 30m", "--for requires --hold"),
        ("--status --reason b", "--reason requires --hold"),
    ] {
        let refused = parsed(line).unwrap_err();
        assert!(refused.contains(words), "{line}: {refused}");
    }
    let args = |reason: &str| ["--hold", "a", "--for", "1h", "--reason", reason].map(OsString::from);
    assert!(parse(args("new kernel")).is_ok());
    for (reason, words) in [("", "empty"), ("a\nb", "not printable"), (&*"x".repeat(201), "longer than 200")]
    {
        assert!(parse(args(reason)).unwrap_err().contains(words), "{reason:?}");
    }
    assert!(
        parse(["--hold".into(), OsString::from("a\tb")])
            .unwrap_err()
            .contains("--hold: the name of a VM or group")
    );
    assert!(parsed("--explain 192.0.2.7").unwrap_err().contains("a requester and a VM"));
    assert!(parsed("--status --operation off").unwrap_err().contains("requires --explain"));
    let misspelt = "unknown operation \"rebot\"; expected one of: status, list, off, reboot, on; did you mean \"reboot\"?";
    assert_eq!(parsed("--explain a b --operation rebot").unwrap_err(), misspelt);
    assert!(parsed("--explain a b --operation devstatus").is_err());
}

#[test]
fn options_that_select_different_programs_are_refused_by_name() {
    let programs = [
        ("-c", "--configure (-c)"),
        ("-t", "--check (-t)"),
        ("--add-key a", "--add-key"),
        ("--doctor", "--doctor"),
        ("--explain a b", "--explain"),
        ("--status", "--status"),
        ("--history", "--history"),
        ("--self-test", "--self-test"),
        ("--reload", "--reload"),
        ("--hold a --for 1h --reason b", "--hold"),
        ("--release a", "--release"),
        ("-l", "--list (-l)"),
    ];
    for (at, (one, one_name)) in programs.iter().enumerate() {
        for (other, other_name) in &programs[at + 1..] {
            let refused = parsed(&format!("{one} -f x {other} {one}"));
            assert_eq!(refused, Err(format!("{one_name} and {other_name} cannot be combined")));
        }
        assert!(parsed(&format!("{one} {one} -F")).is_ok(), "{one}");
    }
    let refused = parsed("--status --json --openmetrics");
    assert_eq!(refused, Err("--json and --openmetrics cannot be combined".to_owned()));
}

#[test]
fn a_second_configuration_is_warned_of() {
    let parsed = command_line("-f a --config=b -t -f c").unwrap();
    let warning = "--config (-f) is given more than once: c is read, not a, b";
    assert_eq!(parsed.warning.as_deref(), Some(warning));
    assert!(matches!(parsed.invocation, Invocation::Check { config, .. } if config == Path::new("c")));
    assert_eq!(command_line("-f a -t").unwrap().warning, None);
}

#[test]
fn help_names_every_option() {
    for option in ["-F", "-f", "-d", "-w", "-p", "-c", "-t", "-l", "-V", "-h"] {
        assert!(USAGE.contains(&format!("  {option}, --")), "{option}");
    }
    assert!(USAGE.contains("  --doctor "));
    assert!(USAGE.lines().all(|line| line.len() <= 80));
}
