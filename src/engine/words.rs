//! Enums of the engine whose values have one text each, in JSON and in messages, and what it can grant.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// Declares an enum whose values have one text each.
macro_rules! words {
    ($(#[$about:meta])+ $name:ident { $($(#[$meaning:meta])+ $value:ident = $text:literal,)+ }) => {
        $(#[$about])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$meaning])+ $value,)+ }

        impl $name {
            /// Its text.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$value => $text,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                match text { $($text => Ok(Self::$value),)+ _ => Err(UnknownWord(text.to_owned())) }
            }
        }
    };
}

/// A text that is none of the expected words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownWord(pub String);

impl fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is unknown", self.0)
    }
}

impl std::error::Error for UnknownWord {}

words! {
    /// The state of a container.
    State {
        /// It has not been started.
        Created = "created",
        /// Its program runs.
        Running = "running",
        /// Its processes are frozen.
        Paused = "paused",
        /// The engine is about to start it again.
        Restarting = "restarting",
        /// The engine is removing it.
        Removing = "removing",
        /// Its program has ended.
        Exited = "exited",
        /// The engine could not remove all of it.
        Dead = "dead",
        /// A state that this version does not know.
        Unknown = "unknown",
    }
}

words! {
    /// The transport protocol of a port.
    Protocol {
        /// TCP.
        Tcp = "tcp",
        /// UDP.
        Udp = "udp",
        /// SCTP.
        Sctp = "sctp",
    }
}

words! {
    /// Which mounts travel between a directory of the host and its place in a container; without it, none.
    Propagation {
        /// Mounts made on the host appear in the container.
        Slave = "rslave",
        /// Mounts appear in both directions.
        Shared = "rshared",
    }
}

words! {
    /// Which kind of containers the engine runs.
    OsType {
        /// Linux containers.
        Linux = "linux",
        /// Windows containers.
        Windows = "windows",
        /// Containers of some other system.
        Unknown = "unknown",
    }
}

/// What the engine can give to a container, and limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Grants {
    /// It can limit memory.
    pub memory: bool,
    /// It can limit processor time.
    pub cpus: bool,
    /// Directories in which it looks for devices of the Container Device Interface; `None` if it does not know of CDI.
    pub cdi: Option<Vec<String>>,
    /// Names of the CDI devices that it found; empty where it does not say.
    pub cdi_devices: Vec<String>,
}

/// A limit of processes (`ulimit`), `-1` for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limit {
    pub soft: i64,
    pub hard: i64,
}

impl From<i64> for Limit {
    fn from(both: i64) -> Self {
        Self { soft: both, hard: both }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_read_as_it_is_written() {
        for state in [State::Created, State::Running, State::Paused, State::Removing, State::Dead] {
            assert_eq!(state.to_string().parse(), Ok(state));
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
        assert_eq!("TCP".parse::<Protocol>(), Err(UnknownWord("TCP".to_owned())));
        assert_eq!(format!("{:<6}|", Protocol::Udp), "udp   |");
    }
}
