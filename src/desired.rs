//! What should run here: the state's word, and what operators decided on this host. Pure.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::record::controls::{Controls, Pin};
use crate::record::journal::Target;

/// What is wanted of an app on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Desired {
    /// The state names an artifact.
    Target(Target),
    /// The state names an artifact that it also blocks.
    Blocked {
        /// The artifact.
        target: Target,
        /// Why it is blocked.
        reason: String,
    },
    /// Nothing may change for now.
    Suspended {
        /// What it would be, if the state says.
        target: Option<Target>,
        /// Why, by whom, until when.
        why: Suspension,
    },
    /// A person went back to a release on this host alone; what the state asks waits until that ends.
    Pinned {
        /// What the state asks.
        target: Option<Target>,
        /// The release that should run instead.
        pin: Box<Pin>,
    },
    /// The state says that the app is to be removed from here.
    Absent,
    /// The state does not speak of this app; what runs stays.
    NotInState,
    /// What the state says of this app is wrong; what runs stays.
    Invalid(String),
}

/// A pause of everything that changes an app: applying and healing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Suspension {
    /// Why.
    pub reason: String,
    /// Who said so.
    pub by: String,
    /// Since when, where this host knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Where it was said, and so where it is taken back.
    pub place: Place,
}

/// Where something was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// In the state.
    State,
    /// On this host.
    Host,
}

impl fmt::Display for Suspension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (by {}", self.reason, self.by)?;
        if let Some(until) = self.until {
            write!(f, ", until {until:.0}")?;
        }
        f.write_str(")")
    }
}

impl Desired {
    /// What the state asks for, whether it may be applied or not.
    pub const fn target(&self) -> Option<&Target> {
        match self {
            Self::Target(target) | Self::Blocked { target, .. } => Some(target),
            Self::Suspended { target, .. } | Self::Pinned { target, .. } => target.as_ref(),
            Self::Absent | Self::NotInState | Self::Invalid(_) => None,
        }
    }

    /// The state's word under what operators decided on this host. Applying it twice changes nothing more.
    #[must_use]
    pub fn under(self, controls: &Controls, now: Timestamp) -> Self {
        if matches!(self, Self::Suspended { .. }) {
            return self;
        }
        let target = self.target().cloned();
        if let Some(why) = controls.suspension(now) {
            return Self::Suspended { target, why: why.clone() };
        }
        match controls.pin(now) {
            Some(pin) => Self::Pinned { target, pin: Box::new(pin.clone()) },
            None => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::release::ReleaseRef;
    use landfall_store::{ArtifactId, Digest};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn asked() -> Target {
        Target::of(ArtifactId::of(b"b"))
    }

    fn controls(suspended: bool, pinned: bool) -> Controls {
        let suspend = suspended.then(|| Suspension {
            reason: "fair".into(),
            by: "lee".into(),
            since: Some(at(0)),
            until: Some(at(100)),
            place: Place::Host,
        });
        let release = ReleaseRef::new(ArtifactId::of(b"a"), Digest::of(b"a"), "1".parse().unwrap());
        let pin = pinned.then(|| Pin {
            release,
            reason: "bad checkout".into(),
            by: "lee".into(),
            since: at(0),
            until: at(200),
        });
        Controls { suspend, pin, ..Controls::default() }
    }

    #[test]
    fn a_suspension_wins_over_a_pin_and_each_ends_by_itself() {
        let both = controls(true, true);
        let wanted = |seconds| Desired::Target(asked()).under(&both, at(seconds));
        assert!(matches!(wanted(99), Desired::Suspended { .. }));
        assert!(matches!(wanted(100), Desired::Pinned { .. }));
        assert!(matches!(wanted(199), Desired::Pinned { .. }));
        assert_eq!(wanted(200), Desired::Target(asked()));
    }

    #[test]
    fn an_app_can_be_suspended_and_pinned_whatever_the_state_says_of_it() {
        for state in
            [Desired::Absent, Desired::NotInState, Desired::Invalid("w".into()), Desired::Target(asked())]
        {
            let target = state.target().cloned();
            let suspended = state.clone().under(&controls(true, false), at(1));
            assert!(matches!(&suspended, Desired::Suspended { target: seen, .. } if *seen == target));
            let pinned = state.under(&controls(false, true), at(1));
            assert!(matches!(&pinned, Desired::Pinned { target: seen, .. } if *seen == target));
        }
    }

    #[test]
    fn the_suspension_of_the_state_is_not_hidden_by_one_of_the_host() {
        let why = Suspension {
            reason: "r".into(),
            by: "maria".into(),
            since: None,
            until: None,
            place: Place::State,
        };
        let state = Desired::Suspended { target: Some(asked()), why };
        assert_eq!(state.clone().under(&controls(true, true), at(1)), state);
    }

    #[test]
    fn what_is_said_twice_is_said_once() {
        for controls in [controls(true, true), controls(false, true), controls(false, false)] {
            let once = Desired::Target(asked()).under(&controls, at(1));
            assert_eq!(once.clone().under(&controls, at(1)), once);
        }
    }
}
