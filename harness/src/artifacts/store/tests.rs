//! Several processes and killed ones are stood for by threads and by what they would leave.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, SystemTime};

use super::manifest::MANIFEST;
use super::*;
use crate::artifacts::Progress;

fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store { root: directory.path().to_owned() };
    (directory, store)
}

/// The entry `thing`, with a file `content`, and what was told meanwhile.
fn thing(store: &Store, builds: &AtomicUsize) -> (Result<Entry, PrepareError>, Vec<ProgressState>) {
    let mut told = Vec::new();
    let mut tell = |progress: Progress| told.push(progress.state);
    let entry =
        store.entry(&Key::new("thing", &["1"]), "the thing", &mut Reporter { progress: &mut tell }, |directory| {
            builds.fetch_add(1, Ordering::SeqCst);
            fs::create_dir(directory.join("inner")).map_err(at("make", directory))?;
            fs::write(directory.join("inner/content"), "42").map_err(at("write", directory))
        });
    (entry, told)
}

#[test]
fn keys_tell_neighbouring_inputs_apart() {
    assert_ne!(Key::new("a", &["bc", "d"]), Key::new("a", &["b", "cd"]));
    assert_eq!(Key::new("a", &["b"]), Key::new("a", &["b"]));
}

#[test]
fn an_entry_is_built_once_and_then_found_in_silence() {
    let (_directory, store) = store();
    let builds = AtomicUsize::new(0);
    let (first, told) = thing(&store, &builds);
    assert_eq!(told.len(), 2, "{told:?}");
    let (second, told) = thing(&store, &builds);
    assert_eq!(told, []);
    assert_eq!(first.unwrap().build, second.unwrap().build);
    assert_eq!(builds.load(Ordering::SeqCst), 1);
}

#[test]
fn many_at_once_build_it_once() {
    let (_directory, store) = store();
    let (store, builds, together) = (Arc::new(store), Arc::new(AtomicUsize::new(0)), Arc::new(Barrier::new(8)));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (store, builds, together) = (Arc::clone(&store), Arc::clone(&builds), Arc::clone(&together));
            std::thread::spawn(move || {
                together.wait();
                thing(&store, &builds).0.unwrap().build
            })
        })
        .collect();
    let mut identities: Vec<String> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    identities.dedup();
    assert_eq!((identities.len(), builds.load(Ordering::SeqCst)), (1, 1));
}

#[test]
fn what_a_killed_process_left_is_removed_and_never_used() {
    let (_directory, store) = store();
    let leftover = store.root.join(format!("{}1", building(&Key::new("thing", &["1"]))));
    fs::create_dir_all(leftover.join("inner")).unwrap();
    fs::write(leftover.join("inner/content"), "4").unwrap();
    let (entry, _) = thing(&store, &AtomicUsize::new(0));
    assert!(!leftover.exists());
    assert_eq!(fs::read_to_string(entry.unwrap().path.join("inner/content")).unwrap(), "42");
}

#[test]
fn leftovers_of_any_entry_are_swept_unless_it_is_being_built() {
    let (_directory, store) = store();
    let (old, busy) = (Key::new("old", &["1"]), Key::new("busy", &["1"]));
    let mut silent = |_| {};
    let _lock = store.lock(&busy, "busy", &mut Reporter { progress: &mut silent }).unwrap();
    let [old, busy] = [old, busy].map(|key| store.root.join(format!("{}1", building(&key))));
    fs::create_dir_all(&old).unwrap();
    fs::create_dir_all(&busy).unwrap();
    store.sweep().unwrap();
    assert!(!old.exists());
    assert!(busy.exists());
}

#[test]
fn a_failed_build_leaves_nothing_and_may_be_tried_again() {
    let (_directory, store) = store();
    let key = Key::new("thing", &["1"]);
    let mut silent = |_| {};
    let failed = store.entry(&key, "the thing", &mut Reporter { progress: &mut silent }, |directory| {
        fs::write(directory.join("half"), "").unwrap();
        Err(PrepareError::new("no luck"))
    });
    assert_eq!(failed.unwrap_err().message, "no luck");
    let left: Vec<_> = fs::read_dir(&store.root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["locks"]);
    thing(&store, &AtomicUsize::new(0)).0.unwrap();
}

#[test]
fn a_changed_file_is_named_and_the_entry_is_built_anew() {
    let (_directory, store) = store();
    let builds = AtomicUsize::new(0);
    let entry = thing(&store, &builds).0.unwrap();
    let content = entry.path.join("inner/content");
    // The second change keeps the size; only the hash tells.
    for (damage, expected) in [("421", "has 3 bytes instead of 2"), ("43", "SHA-256")] {
        fs::write(&content, damage).unwrap();
        let (rebuilt, told) = thing(&store, &builds);
        let ProgressState::Damaged(what) = &told[0] else { panic!("{told:?}") };
        assert!(what.contains("inner/content") && what.contains(expected), "{what}");
        assert_ne!(rebuilt.unwrap().build, entry.build);
        assert_eq!(fs::read_to_string(&content).unwrap(), "42");
    }
    fs::remove_file(entry.path.join(MANIFEST)).unwrap();
    thing(&store, &builds).0.unwrap();
    assert_eq!(builds.load(Ordering::SeqCst), 4);
}

#[test]
fn a_touched_file_is_not_damage() {
    let (_directory, store) = store();
    let builds = AtomicUsize::new(0);
    let entry = thing(&store, &builds).0.unwrap();
    let content = entry.path.join("inner/content");
    let modified = || fs::metadata(&content).unwrap().modified().unwrap();
    let before = modified();
    fs::write(&content, "42").unwrap();
    assert_eq!(thing(&store, &builds).1, []);
    assert_eq!(modified(), before);
}

/// Asks for an entry that was last used an hour ago, does `meanwhile` while it is being looked at, and answers how often
/// it was built.
///
/// A pipe in the place of its file, which is empty, holds the look up until its other end is closed.
fn looked_at(meanwhile: impl FnOnce(&Store, &Path)) -> usize {
    let (_directory, store) = store();
    let builds = AtomicUsize::new(0);
    let ask = || {
        let mut silent = |_| {};
        let entry =
            store.entry(&Key::new("thing", &["1"]), "it", &mut Reporter { progress: &mut silent }, |directory| {
                builds.fetch_add(1, Ordering::SeqCst);
                fs::write(directory.join("empty"), "").map_err(at("write", directory))
            });
        entry.unwrap().path
    };
    let path = ask();
    let manifest = File::options().append(true).open(path.join(MANIFEST)).unwrap();
    manifest.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
    let file = path.join("empty");
    fs::remove_file(&file).unwrap();
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR).unwrap();
    std::thread::scope(|scope| {
        let asked = scope.spawn(ask);
        let holding = File::options().write(true).open(&file).unwrap();
        // What comes after the look finds the file again.
        fs::remove_file(&file).unwrap();
        fs::write(&file, "").unwrap();
        meanwhile(&store, &path);
        drop(holding);
        assert!(asked.join().unwrap().join("empty").is_file());
    });
    builds.load(Ordering::SeqCst)
}

#[test]
fn what_is_being_looked_at_is_in_use() {
    let builds = looked_at(|store, path| {
        let since = SystemTime::now() - Duration::from_secs(60);
        assert!(!store.remove(path, since).unwrap());
    });
    assert_eq!(builds, 1);
}

#[test]
fn what_went_while_it_was_looked_at_is_built_anew() {
    assert_eq!(looked_at(|_, path| fs::remove_dir_all(path).unwrap()), 2);
}
