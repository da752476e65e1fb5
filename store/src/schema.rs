//! JSON Schemas of the names and ids, for programs that publish the schema of what they print.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::{ArtifactId, BlobId, Digest, Name, TreeId, Version};

/// Text of one form; written out where it is used, without a definition of its own.
macro_rules! text {
    ($type:ty, $pattern:literal, $what:literal) => {
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "pattern": $pattern, "description": $what})
            }
        }
    };
}

text!(ArtifactId, "^b3:[0-9a-f]{64}$", "An artifact's full id.");
text!(Digest, "^[0-9a-f]{64}$", "A BLAKE3 hash.");
text!(TreeId, "^[0-9a-f]{64}$", "A tree's id.");
text!(BlobId, "^[0-9a-f]{64}$", "A content's id.");
text!(Name, "^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$", "A name: of an app, an environment, a layer.");
text!(Version, "^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$", "What people call an artifact.");
