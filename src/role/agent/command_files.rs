//! The commands of this host: the files that `agent.commands` names.

use std::path::{Path, PathBuf};

use crate::command::{CommandError, CommandFile, CommandSet, builtin};

/// The entry of `agent.commands` that means the commands compiled in; all else is a path.
const BUILTIN: &str = "builtin";

/// Reads and checks what `agent.commands` names: `builtin`, files, and folders of which every `*.toml` is read in the order of
/// their names. Blocks on the disk.
///
/// # Errors
/// The first thing that can't be read or is wrong in any file.
pub fn load(sources: &[String]) -> Result<CommandSet, CommandError> {
    let files = sources.iter().map(|source| files(source)).collect::<Result<Vec<_>, _>>()?;
    CommandSet::load(&files.concat())
}

fn files(source: &str) -> Result<Vec<CommandFile>, CommandError> {
    let path = Path::new(source);
    if source == BUILTIN {
        Ok(builtin())
    } else if path.is_dir() {
        let failed = |source| CommandError::Read { path: path.to_path_buf(), source };
        let entries = std::fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(failed)?;
        let mut paths: Vec<PathBuf> = entries
            .into_iter()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
            .collect();
        paths.sort();
        paths.iter().map(|path| read(path)).collect()
    } else {
        read(path).map(|file| vec![file])
    }
}

fn read(path: &Path) -> Result<CommandFile, CommandError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| CommandError::Read { path: path.to_path_buf(), source })?;
    Ok(CommandFile { name: path.display().to_string(), text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_folders_are_read_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for (file, name) in [("b.toml", "two"), ("a.toml", "one"), ("notes.txt", "no")] {
            let text = format!(
                "[[command]]\nname = '{name}'\ndescription = ''\nintent = 'query'\naliases = ['{name} word']\naction = {{ do = 'stop' }}"
            );
            std::fs::write(dir.path().join(file), text).unwrap();
        }
        let set = load(&[dir.path().display().to_string()]).unwrap();
        assert_eq!(set.commands().iter().map(|command| command.name.as_str()).collect::<Vec<_>>(), ["one", "two"]);
        let missing = dir.path().join("missing.toml");
        let error = load(&[missing.display().to_string()]).unwrap_err().to_string();
        assert!(error.contains("missing.toml") && error.contains("check the path"), "{error}");
        assert_eq!(files("builtin").unwrap(), builtin());
    }
}
