use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::Path;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::super::sample::record;
use super::super::unwritten::APPENDED_MAX;
use super::*;
use fence_virt::power_log::{FILE_BYTES_MAX, HEADER, OPERATIONS_MAX, decode};

/// Limits with which no test fails on a slow disk.
const PATIENT: WriterLimits = WriterLimits { writes: BRIEF, flush: Duration::from_secs(60) };

/// Intervals that no test waits for.
const BRIEF: WriteIntervals = WriteIntervals {
    append: Duration::from_millis(1),
    replace: Duration::from_millis(5),
    retry: Duration::from_millis(5),
};

/// Directory of one test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("fence-virtd-history-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Scratch(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("history")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn in_memory(journal: &PowerJournal) -> Vec<String> {
    journal.records().iter().map(|record| record.record.vm.clone()).collect()
}

fn in_file(path: &Path) -> Vec<String> {
    let kept = decode(&fs::read(path).unwrap()).unwrap();
    assert_eq!(kept.skipped, 0);
    kept.records.into_iter().map(|record| record.vm).collect()
}

/// Runs a writer over a file, records these, and ends it.
fn run(path: &Path, vms: &[&str]) -> PowerJournal {
    let journal = PowerJournal::default();
    let writer = JournalWriter::with_limits(path.to_owned(), &journal, PATIENT).unwrap();
    vms.iter().for_each(|vm| journal.record(record(vm)));
    drop(writer);
    journal
}

#[test]
fn records_survive_a_restart() {
    let scratch = Scratch::new("restart");
    let path = scratch.0.join("made").join("history");
    run(&path, &["a", "b"]);
    assert_eq!(in_file(&path), ["a", "b"]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o7777, 0o700);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(in_memory(&run(&path, &["c"])), ["a", "b", "c"]);
    assert_eq!(in_file(&path), ["a", "b", "c"]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
}

#[test]
fn a_torn_last_line_is_removed() {
    let scratch = Scratch::new("torn");
    let line = encode(&record("a"));
    fs::write(scratch.file(), format!("{HEADER}{line}{}", &line[..line.len() / 2])).unwrap();
    assert_eq!(in_memory(&run(&scratch.file(), &["b"])), ["a", "b"]);
    assert_eq!(in_file(&scratch.file()), ["a", "b"]);
}

/// Waits for the thread, which tells nobody what it has done.
fn await_file(path: &Path, is_there: impl Fn(&Path) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_there(path) {
        assert!(Instant::now() < deadline, "never written");
        thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn the_file_is_bounded() {
    let scratch = Scratch::new("bounded");
    let journal = PowerJournal::default();
    let writer = JournalWriter::with_limits(scratch.file(), &journal, PATIENT).unwrap();
    // As many as the queue takes, and the file has them before more come.
    for round in 0..10 {
        (0..APPENDED_MAX).for_each(|at| journal.record(record(&format!("{round}-{at}"))));
        let last = format!("\t{round}-{}\t", APPENDED_MAX - 1);
        await_file(&scratch.file(), |path| fs::read_to_string(path).unwrap_or_default().contains(&last));
    }
    drop(writer);
    let lines = in_file(&scratch.file());
    let max = OPERATIONS_MAX + 2 * APPENDED_MAX;
    assert!((OPERATIONS_MAX..=max).contains(&lines.len()), "{}", lines.len());
    assert!(lines.ends_with(&in_memory(&journal)[..]), "the last records are in the file, in their order");
}

#[test]
fn records_that_a_full_queue_did_not_take_come_with_the_next_replacement() {
    let scratch = Scratch::new("full");
    let journal = PowerJournal::default();
    let (sender, orders) = bounded(1);
    journal.follow(sender);
    let intervals = WriteIntervals { replace: Duration::from_secs(60), ..BRIEF };
    let mut thread = WriterThread::new(JournalFile(scratch.file()), journal.clone(), intervals);
    let start = Instant::now();
    thread.replace(start);
    ["a", "b", "c"].into_iter().for_each(|vm| journal.record(record(vm)));
    assert!(thread.collect(orders.recv().unwrap(), &orders).is_none());
    thread.write(start + Duration::from_secs(1), false);
    assert_eq!(in_file(&scratch.file()), ["a"]);
    let due = start + Duration::from_secs(60);
    assert_eq!(thread.unwritten.due(), Some(due));
    thread.write(due, false);
    assert_eq!((in_file(&scratch.file()), thread.unwritten.due()), (in_memory(&journal), None));
    assert_eq!(in_file(&scratch.file()).len(), 3);
}

#[test]
fn another_file_is_left_alone() {
    let scratch = Scratch::new("foreign");
    for content in ["fence_virtd { }\n".to_owned(), HEADER.to_owned() + &"x".repeat(FILE_BYTES_MAX)] {
        fs::write(scratch.file(), &content).unwrap();
        assert_eq!(in_memory(&run(&scratch.file(), &["a"])), ["a"]);
        assert!(fs::read_to_string(scratch.file()).unwrap() == content);
    }
    let link = scratch.0.join("link");
    fs::write(scratch.file(), "").unwrap();
    symlink(scratch.file(), &link).unwrap();
    run(&link, &["a"]);
    assert_eq!(fs::read_to_string(scratch.file()).unwrap(), "");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    let fifo = scratch.0.join("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    assert_eq!(in_memory(&run(&fifo, &["a"])), ["a"]);
    assert!(fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo());
}

#[test]
fn a_file_that_could_not_be_read_is_given_up() {
    let scratch = Scratch::new("unreadable");
    // No path leads below a file.
    let blocked = scratch.0.join("blocked");
    fs::write(&blocked, "").unwrap();
    let path = blocked.join("history");
    let journal = PowerJournal::default();
    let writer = JournalWriter::with_limits(path.clone(), &journal, PATIENT).unwrap();
    fs::remove_file(&blocked).unwrap();
    fs::create_dir(&blocked).unwrap();
    journal.record(record("a"));
    drop(writer);
    assert_eq!((in_memory(&journal), path.exists()), (vec!["a".to_owned()], false));
    // A directory has its name.
    fs::create_dir_all(path.join("in the way")).unwrap();
    assert_eq!(in_memory(&run(&path, &["a"])), ["a"]);
    assert!(path.join("in the way").exists() && !blocked.join("history.new").exists());
}

#[test]
fn what_could_not_be_written_is_written_later() {
    let scratch = Scratch::new("later");
    let path = scratch.file();
    // The name of the replacement is taken by a directory.
    let new = scratch.0.join("history.new");
    fs::create_dir_all(new.join("in the way")).unwrap();
    let journal = PowerJournal::default();
    let writer = JournalWriter::with_limits(path.clone(), &journal, PATIENT).unwrap();
    journal.record(record("a"));
    fs::remove_dir_all(&new).unwrap();
    await_file(&path, Path::exists);
    // A file that was removed is made anew.
    fs::remove_file(&path).unwrap();
    journal.record(record("b"));
    drop(writer);
    assert_eq!(in_file(&path), ["a", "b"]);
}
