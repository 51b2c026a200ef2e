//! Configuration files of real hosts, which `config::parse` must accept, and
//! random files, which it must survive.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::path::Path;

use fence_virt::config::{self, BackendConfig, Config, CpgConfig, HostFencing, UnknownVm};

/// Shipped example.
const EXAMPLE: &[u8] = include_bytes!("../fence_virt.conf.example");

/// Equivalent of the example in the C suite's fence_virt.conf(5).
const MAN_PAGE: &str = r#"
fence_virtd { listener = "multicast"; backend = "cpg"; }

# this is the listeners section
listeners {
  multicast { key_file = "/etc/cluster/fence_xvm.key"; }
}

backends {
  libvirt { uri = "qemu:///system"; }
}

groups {
  group {
    name = "cluster1";
    ip = "192.168.1.1";
    ip = "192.168.1.2";
    uuid = "44179d3f-6c63-474f-a212-20c8b4b25b16";
    uuid = "1ce02c4b-dfa1-42cb-b5b1-f0b1091ece60";
    uuid = "node1";
    uuid = "node2";
  }
}
"#;

/// Content of /etc/fence_virt.conf in Debian's package.
const DEBIAN: &str = r#"fence_virtd {
	listener = "multicast";
	backend = "libvirt";
}

listeners {
	multicast {
		key_file = "/etc/fence_virt.key";
		address = "225.0.0.12";
		# Needed on Fedora systems
		interface = "virbr0";
	}
}

backends {
	libvirt { 
		uri = "qemu:///system";
	}
}

"#;

/// Configuration with one mistake of each kind.
const WRONG: &str = r#"fence_virtd { listener = "tcp, ucp"; backend = "x" foreground = maybe; }
listeners { tcp { prot = "1"; port = "0"; hash = "md5"; auth = "sha1"; address = "é"; } tcp { } }
backends { libvirt { uri = "a"; uri1 = "a"; } } }; groups { group = "g" { ip = "x
y"; uuid = "" } }"#;

fn accepted(text: &[u8]) -> Config {
    let outcome = config::parse(Path::new("test.conf"), text);
    assert!(outcome.diagnostics.is_empty(), "{}", outcome.diagnostics.render(true));
    outcome.config.expect("no diagnostics, so there is a configuration")
}

#[test]
fn the_example_of_the_man_page() {
    let config = accepted(MAN_PAGE.as_bytes());
    let uris = vec!["qemu:///system".to_string()];
    let (host_fencing, unknown_vm) = (HostFencing::Auto, UnknownVm::Fail);
    let expected = CpgConfig { uris, name_mode: None, host_fence_delay: None, host_fencing, unknown_vm };
    assert_eq!(config.backend, BackendConfig::Cpg(expected));
    assert_eq!((config.groups[0].uuids.len(), config.groups[0].ips.len()), (4, 2));
    assert_eq!(config.groups[0].name.as_deref(), Some("cluster1"));
}

#[test]
fn debians_default() {
    let summary = accepted(DEBIAN.as_bytes()).summary();
    assert!(summary.contains("multicast 225.0.0.12 port 1229 on virbr0, "), "{summary}");
    assert!(summary.contains("key /etc/fence_virt.key\n"), "{summary}");
    let crlf = DEBIAN.replace('\n', "\r\n").to_uppercase().replace("VIRBR0", "virbr0");
    assert!(accepted(crlf.as_bytes()).summary().contains(" on virbr0, "));
}

#[test]
fn the_shipped_example() {
    let summary = accepted(EXAMPLE).summary();
    assert!(summary.contains("key /etc/cluster/fence_xvm.key"), "{summary}");
    assert!(summary.contains("backend: libvirt at qemu:///system\n"), "{summary}");
}

/// Commented settings such as `#key = "value";` count too.
#[test]
fn the_shipped_example_shows_every_key() {
    let text = std::str::from_utf8(EXAMPLE).expect("UTF-8");
    let enabled: Vec<&str> = text.lines().map(enable).collect();
    let outcome = config::parse(Path::new("example"), enabled.join("\n").as_bytes());
    assert!(outcome.diagnostics.is_empty(), "{}", outcome.diagnostics.render(true));
    for spec in config::KEYS {
        let mut path: Vec<&str> = Vec::new();
        let shown = enabled.iter().map(|line| line.trim()).any(|line| {
            match line.strip_suffix('{') {
                // Without its label.
                Some(name) if !line.starts_with('#') => path.extend(name.split('=').next().map(str::trim)),
                _ if line == "}" => drop(path.pop()),
                _ => {}
            }
            path.join("/") == spec.section && line.starts_with(&format!("{} =", spec.name))
        });
        assert!(shown, "{} of {}", spec.name, spec.section);
    }
}

fn enable(line: &str) -> &str {
    let bare = line.trim_start();
    let is_setting = bare.ends_with("\";") || bare.ends_with('{') || bare.ends_with('}');
    match bare.strip_prefix('#') {
        Some(setting) if is_setting && !setting.starts_with(' ') => setting,
        _ => line,
    }
}

/// xorshift64 with a fixed seed: every run is the same.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

fn mutate(text: &mut Vec<u8>, random: &mut Random) {
    const PIECES: [&[u8]; 16] = [
        b"{",
        b"}",
        b"\"",
        b";",
        b"=",
        b"#",
        b"\n",
        b"\r\n",
        b"\0",
        b"\xff",
        b"\xc3\xa9",
        b" ",
        b"a { ",
        b"port",
        b"uri1 = \"x\";",
        b"\"\"",
    ];
    for _ in 0..=random.below(4) {
        let at = random.below(text.len() + 1);
        match random.below(4) {
            0 => drop(text.splice(at..at, PIECES[random.below(PIECES.len())].iter().copied())),
            1 => drop(text.drain(at..(at + random.below(12)).min(text.len()))),
            2 => {
                let piece = text[at..(at + random.below(40)).min(text.len())].to_vec();
                let to = random.below(text.len() + 1);
                text.splice(to..to, piece);
            }
            _ => {
                if let Some(byte) = text.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
        }
    }
}

/// Asserts that parsing does not panic, that diagnostics point into the text,
/// and that the result is a configuration or a fatal diagnostic.
fn assert_survives(text: &[u8]) {
    let outcome = config::parse(Path::new("f"), text);
    assert_eq!(outcome.config.is_none(), outcome.diagnostics.is_fatal(false));
    let lossy = String::from_utf8_lossy(text);
    let lines: Vec<usize> = lossy.split('\n').map(|line| line.chars().count()).collect();
    for found in outcome.diagnostics.iter() {
        let length = lines.get(found.line as usize - 1);
        assert!(
            length.is_some_and(|length| (1..=length + 1).contains(&(found.column as usize))),
            "{found:?}"
        );
    }
    assert_eq!(outcome.diagnostics.render(true).is_empty(), outcome.diagnostics.is_empty());
    if let Some(config) = outcome.config {
        assert!(!config.listeners.is_empty() && config.summary().contains("backend: "));
    }
}

#[test]
fn random_files_do_no_harm() {
    const THREADS: u64 = 4;
    const ROUNDS: usize = 50_000;
    std::thread::scope(|scope| {
        for thread in 1..=THREADS {
            scope.spawn(move || random_files(Random(0x1e37_79b9_7f4a_7c15 * thread), ROUNDS));
        }
    });
}

fn random_files(mut random: Random, rounds: usize) {
    let seeds = [
        MAN_PAGE,
        DEBIAN,
        WRONG,
        "a{b=\"c\";}",
        "fence_virtd{listener=\"tcp\";backend=\"cpg\";}",
        "groups{group=\"a\"{uuid=\"b\";ip=\"::1\";}group{uuid=\"b\";}}",
        "fence_virtd{listener=\"tcp\";backend=\"libvirt\";}listeners{tcp{port=\"5\";address=\"::1\";}}",
        "backends{libvirt{uri=\"a\";uri1=\"b\";uri2=\"a\";}cpg{name_mode=\"uuid\";}}#",
    ];
    for round in 0..rounds {
        // The example is long, so it is a seed less often.
        let seed = if round % 200 == 0 { EXAMPLE } else { seeds[round % seeds.len()].as_bytes() };
        let mut text = seed.to_vec();
        mutate(&mut text, &mut random);
        assert_survives(&text);
    }
}
