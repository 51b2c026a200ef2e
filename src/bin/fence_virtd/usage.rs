//! Help text of the daemon's command line.
#![forbid(unsafe_code)]

/// Output of `-h`, by task. Lines have at most 80 columns.
pub(crate) const USAGE: &str = "\
Usage: fence_virtd [options]

Run the daemon:
  -F, --foreground       stay in the foreground, log to stderr
  -f, --config <file>    read <file> instead of /etc/fence_virt.conf; so do
                         the programs below
  -p, --pid-file <file>  record the process id in <file> instead of
                         /var/run/fence_virtd.pid
  -w, --wait-for-init    wait for libvirt, addresses and interfaces that are
                         not available yet, instead of failing
  -d, --debug <level>    0: one line a request; 1: each step of a session too;
                         2: events of libvirt, cluster and network too
      --log <format>     text, or json: on stdout, one object a line

Set up and check:
  -c, --configure        ask for the settings, write the configuration
  -t, --check            check the configuration, print what would run.
                         Exit code 0: no errors, 1: errors
      --lenient          with --check: only problems that prevent the start
                         are errors
      --add-key <vm>     make a key of its own for this VM, and print what to do
                         with it. Exit code 0: made, 1: not made
      --uuid <uuid>      with --add-key: the UUID of the VM
      --doctor           check this host against the configuration, print
                         problems and remedies.
                         Exit code 0: no problems, 1: warnings, 2: errors
      --errors-only      with --doctor: print the errors alone, and the counts
      --explain <requester> <vm>
                         say by which groups this requester (an address, a
                         CID, a VM, or key:NAME) may fence this VM. Exit code
                         0: allowed, 1: denied, or some operations are,
                         2: not known
      --operation <op>   with --explain: only this one of status, list, off,
                         reboot and on

Look at a running daemon:
      --status           print its status.
                         Exit code 0: no problems, 2: problems, 1: no answer
      --watch            with --status: again every 2 s, until interrupted
      --openmetrics      with --status: as OpenMetrics, for monitoring
      --textfile <file>  with --status: write OpenMetrics to <file>, also if
                         there are problems or no answer
      --history          print the last power operations, the newest one last.
                         Exit code 0: printed, 1: no answer
      --vm <name>        with --history: only those on this VM, by the name or
                         UUID that the requests had
      --json             with --status, --history or --doctor: as JSON
      --self-test        ask it over each of its network listeners, as an
                         agent does, for monitor and list. Exit code 0: all
                         answered, 1: some did not, 2: it could not be tried
      --key <file>       with --self-test: ask with this key, that of a VM
      --fence <vm>       with --self-test: reboot this VM too, after a question
      --yes              with --fence: reboot without the question

Change a running daemon:
      --reload           have it read its configuration and keys again.
                         Exit code 0: taken, 1: refused, or no answer
      --hold <vm|group>  let power operations on this VM, or on the VMs of this
                         group, fail for a while; needs --for and --reason.
                         Exit code 0: in force, 1: refused, or no answer
      --for <time>       with --hold: until then: 90s, 30m, 2h, 1d; 7d at most
      --reason <text>    with --hold: the reason, one line, for log and status
      --release <vm|group>
                         end a hold. Exit code 0: ended, 1: there is none, or
                         no answer

About the program:
  -l, --list             list the listeners and backends
  -V, --version          print the version
  -h, --help             print this help

See fence_virtd(8), fence_virt.conf(5) and fence_virt.conf.example.
";
