//! Chooses the directory of the store.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::super::PrepareError;

/// Where root keeps the store when its home is closed to others: PostgreSQL refuses to run as root, and the user
/// that it runs as must reach its programs.
const FOR_ROOT: &str = "/var/cache/greenroom";

/// What the choice depends on.
struct Surroundings {
    greenroom_cache: Option<PathBuf>,
    xdg_cache_home: Option<PathBuf>,
    home: Option<PathBuf>,
    root: bool,
}

/// The directory of the store: `GREENROOM_CACHE`, else in the user's cache directory.
pub(in super::super) fn location() -> Result<PathBuf, PrepareError> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let chosen = choose(&Surroundings {
        greenroom_cache: set("GREENROOM_CACHE"),
        xdg_cache_home: set("XDG_CACHE_HOME"),
        home: set("HOME"),
        root: nix::unistd::geteuid().is_root(),
    })?;
    std::path::absolute(&chosen).map_err(|source| PrepareError::io("find", &chosen, source))
}

fn choose(surroundings: &Surroundings) -> Result<PathBuf, PrepareError> {
    if let Some(chosen) = &surroundings.greenroom_cache {
        return Ok(chosen.clone());
    }
    let in_xdg = surroundings.xdg_cache_home.as_ref().map(|cache| cache.join("greenroom"));
    let in_home = || surroundings.home.as_ref().map(|home| home.join(".cache/greenroom"));
    match in_xdg.or_else(in_home) {
        Some(usual) if !surroundings.root || closed_directory(&usual).is_none() => Ok(usual),
        Some(_) => Ok(FOR_ROOT.into()),
        None if surroundings.root => Ok(FOR_ROOT.into()),
        None => Err(PrepareError::new("no place for the cache: neither XDG_CACHE_HOME nor HOME is set")
            .hint("set GREENROOM_CACHE to a directory that you can write")),
    }
}

/// Refuses a directory that something else would stumble over later.
pub(super) fn check(directory: &Path, root: bool) -> Result<(), PrepareError> {
    let hint = "set GREENROOM_CACHE to another directory";
    let shown = directory.display();
    if directory.to_str().is_none_or(|path| path.contains([':', '\n'])) {
        let message = format!("the cache directory {shown} has a colon or a character that is not UTF-8 in its path");
        return Err(PrepareError::new(message).detail("a Java class path cannot hold such a path").hint(hint));
    }
    if let Some(closed) = closed_directory(directory).filter(|_| root) {
        let message = format!("the cache directory {shown} cannot be reached by other users");
        return Err(PrepareError::new(message)
            .detail(format!(
                "{} is closed, and PostgreSQL, which refuses to run as root, runs as `nobody`",
                closed.display()
            ))
            .hint(hint));
    }
    Ok(())
}

/// The first directory on the way to `path` that others may not pass.
fn closed_directory(path: &Path) -> Option<PathBuf> {
    let mut ancestors: Vec<&Path> = path.ancestors().collect();
    ancestors.reverse();
    let closed = |directory: &&&Path| {
        fs::metadata(directory).is_ok_and(|data| data.is_dir() && data.permissions().mode() & 0o001 == 0)
    };
    ancestors.iter().find(closed).map(|directory| (*directory).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surroundings(home: &Path, root: bool) -> Surroundings {
        Surroundings { greenroom_cache: None, xdg_cache_home: None, home: Some(home.to_owned()), root }
    }

    #[test]
    fn the_chosen_place_wins_then_xdg_then_home() {
        let home = tempfile::tempdir().unwrap();
        let mut these = surroundings(home.path(), false);
        assert_eq!(choose(&these).unwrap(), home.path().join(".cache/greenroom"));
        these.xdg_cache_home = Some("/xdg".into());
        assert_eq!(choose(&these).unwrap(), Path::new("/xdg/greenroom"));
        these.greenroom_cache = Some("/chosen".into());
        assert_eq!(choose(&these).unwrap(), Path::new("/chosen"));
        these = Surroundings { home: None, ..surroundings(home.path(), false) };
        assert!(choose(&these).unwrap_err().hint.unwrap().contains("GREENROOM_CACHE"));
    }

    #[test]
    fn root_leaves_a_home_that_is_closed_to_others() {
        let home = tempfile::tempdir().unwrap();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(choose(&surroundings(home.path(), true)).unwrap(), Path::new(FOR_ROOT));
        assert!(check(home.path(), true).unwrap_err().detail.unwrap().contains("is closed"));
        check(home.path(), false).unwrap();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(choose(&surroundings(home.path(), true)).unwrap(), home.path().join(".cache/greenroom"));
    }

    #[test]
    fn a_colon_in_the_path_is_refused() {
        assert!(check(Path::new("/a:b/c"), false).unwrap_err().message.contains("colon"));
        check(Path::new("/a b/ü"), false).unwrap();
    }
}
