use super::*;

fn reported(operation: Operation, outcome: &AgentOutcome) -> (u8, String, String) {
    let report = report("vm", operation, outcome);
    (report.code, report.output, report.reason.unwrap_or_default())
}

const DOMAIN_OPERATIONS: [Operation; 4] =
    [Operation::Off, Operation::On, Operation::Reboot, Operation::Status];

#[test]
fn only_the_daemons_success_is_one() {
    for operation in Operation::ALL {
        for outcome in [
            AgentOutcome::Unanswered("timed out".to_owned()),
            AgentOutcome::Unlisted(Verdict::Failure, Vec::new()),
            AgentOutcome::Answered(Verdict::Failure.into()),
            AgentOutcome::Answered(Verdict::Denied.into()),
        ] {
            let (code, output, reason) = reported(operation, &outcome);
            let denied = matches!(outcome, AgentOutcome::Answered(Answer::Verdict(Verdict::Denied)));
            let expected = if denied && operation.names_a_domain() { 3 } else { 1 };
            assert_eq!(code, expected, "{operation} {outcome}");
            assert!(output.is_empty() && !reason.is_empty(), "{operation} {outcome}");
        }
    }
}

#[test]
fn off_is_a_state_and_never_a_success() {
    for operation in Operation::ALL {
        let (code, ..) = reported(operation, &AgentOutcome::Answered(Verdict::Off.into()));
        assert_eq!(code, if operation == Operation::Status { 2 } else { 1 }, "{operation}");
    }
}

#[test]
fn output_of_a_success() {
    for operation in DOMAIN_OPERATIONS {
        let (code, output, reason) = reported(operation, &AgentOutcome::Answered(Verdict::Success.into()));
        assert_eq!((code, reason.as_str()), (0, ""));
        assert_eq!(output, if operation == Operation::Status { "Status: ON\n" } else { "" });
    }
    let off = reported(Operation::Status, &AgentOutcome::Answered(Verdict::Off.into()));
    assert_eq!(off, (2, "Status: OFF\n".to_owned(), String::new()));
    for operation in [Operation::Null, Operation::HostList] {
        assert_eq!(reported(operation, &AgentOutcome::Answered(Verdict::Success.into())).0, 1, "{operation}");
    }
}

#[test]
fn off_of_a_vm_that_no_host_lists_is_explained() {
    let report = |operation, verdict, hosts| report("vm", operation, &AgentOutcome::Unlisted(verdict, hosts));
    let found = report(Operation::Status, Verdict::Off, Vec::new());
    assert_eq!((found.code, found.output.as_str(), found.reason), (2, "Status: OFF\n", None));
    assert!(found.note.unwrap().contains("status of \"vm\": the host lists no VM with this name"));
    let two: Vec<IpAddr> = vec![[192, 0, 2, 1].into(), [192, 0, 2, 9].into()];
    let found = report(Operation::Off, Verdict::Failure, two);
    assert_eq!((found.code, found.note), (1, None));
    let reason = found.reason.unwrap();
    assert!(reason.contains("the hosts 192.0.2.1, 192.0.2.9 list no VM") && reason.contains("pcmk_host_map"));
}

#[test]
fn a_remark_on_other_hosts_leaves_the_exit_code() {
    let report = |operation, verdict| {
        report("vm", operation, &AgentOutcome::Remarked(verdict, "192.0.2.9 lists it as on".to_owned()))
    };
    let off = report(Operation::Status, Verdict::Off);
    assert_eq!((off.code, off.output.as_str(), off.reason), (2, "Status: OFF\n", None));
    assert!(off.note.unwrap().contains("says off; 192.0.2.9 lists it as on"));
    for operation in [Operation::Off, Operation::On, Operation::Reboot] {
        let failed = report(operation, Verdict::Failure);
        assert_eq!((failed.code, failed.note), (1, None));
        assert!(
            failed
                .reason
                .unwrap()
                .contains("answered failure; 192.0.2.9 lists it as on; the daemon's log on")
        );
    }
}

#[test]
fn an_empty_list_of_a_host_with_groups_is_explained() {
    let found = report("", Operation::HostList, &AgentOutcome::HiddenList);
    assert_eq!((found.code, found.output.as_str(), found.reason), (0, "", None));
    assert!(found.note.unwrap().contains("groups"));
    let plain = report("", Operation::HostList, &AgentOutcome::Answered(Answer::HostList(Vec::new())));
    assert_eq!((plain.code, plain.note), (0, None));
}

#[test]
fn lists_are_padded_and_printable_and_each_name_is_one_word() {
    let entry = |name: &str, state| HostEntry { name: name.into(), uuid: "u".into(), state };
    let evil = "a\n\x1b[2J \u{202e}\u{2028}on\\n";
    let entries = vec![entry("b", PowerState::Off), entry(evil, PowerState::Running)];
    let (code, output, _) = reported(Operation::HostList, &AgentOutcome::Answered(Answer::HostList(entries)));
    assert_eq!(code, 0);
    let expected = "a\\u{a}\\u{1b}[2J\\u{20}\\u{202e}\\u{2028}on\\u{5c}n";
    assert_eq!(output, format!("{:<32} u off\n{expected:<32} u on\n", "b"));
}

#[test]
fn only_a_timeout_says_timed_out() {
    // pacemaker maps these words to ETIME.
    for operation in Operation::ALL {
        for verdict in [Verdict::Failure, Verdict::Denied, Verdict::Off] {
            assert!(!reported(operation, &AgentOutcome::Answered(verdict.into())).2.contains("imed out"));
        }
    }
}
