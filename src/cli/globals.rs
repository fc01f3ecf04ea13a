//! What every subcommand takes: where the settings are, and what wins over them.

use std::path::PathBuf;

use crate::config::{self, Config, ConfigError};
use crate::home::Home;

/// What every subcommand takes.
#[derive(Debug, Clone, clap::Args)]
pub struct Globals {
    /// Folder for models and state [default: .sidetone at or above the working directory, else ~/.local/share/sidetone]
    #[arg(long, global = true, env = "SIDETONE_HOME", value_name = "FOLDER")]
    pub home: Option<PathBuf>,
    /// Configuration file; can be given more than once, later ones win [default: config.toml in the home folder]
    #[arg(long, short, global = true, env = "SIDETONE_CONFIG", value_name = "FILE", value_delimiter = ':')]
    pub config: Vec<PathBuf>,
    /// One setting, such as llm.engine=ollama; wins over the files
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
    /// Address of the NATS server, or `embedded` (bus.url)
    #[arg(long, global = true, env = "SIDETONE_BUS", value_name = "URL")]
    pub bus: Option<String>,
    /// Name of the host (node.name)
    #[arg(long, global = true, env = "SIDETONE_NAME", value_name = "NAME")]
    pub name: Option<String>,
}

impl Globals {
    /// The home folder.
    #[must_use]
    pub fn home(&self) -> Home {
        Home::find(self.home.as_deref())
    }

    /// The settings.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn config(&self) -> Result<Config, ConfigError> {
        let mut config = Config::load(&config::files(&self.config, self.home().path()), &self.sets)?;
        if let Some(url) = &self.bus {
            config.bus.url.clone_from(url);
        }
        if let Some(name) = &self.name {
            config.node.name.clone_from(name);
        }
        Ok(config)
    }
}
