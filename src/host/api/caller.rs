//! Who asks, and what they may.
//!
//! The owner of the store may do everything. Whoever bears the token of a grant may do what the
//! grant says, in the space where it was given, for as long as it stands: it is looked up anew
//! for each request, and again for each write and each piece of a watch, so that a revocation
//! holds from the moment in which this replica has it. A route that bearers may take says what it
//! reads when it names its space, see [`Backend::space`]; what it writes is looked at where it is
//! written. All other routes are the owner's alone.
//!
//! Keys are compared as they are stored, so there is no second way to spell one.
//!
//! [`Backend::space`]: super::backend::Backend::space

use axum::body::Body;
use axum::extract::Request;
use axum::http::Response;
use axum::middleware::Next;
use axum::response::IntoResponse as _;

use super::point;
use super::problem::{Kind, Problem};
use crate::engine::base::{SpaceId, WallTime};
use crate::engine::crdt::Op;
use crate::engine::event::Actions;
use crate::engine::store::{Rights, Write};
use crate::host::bearer::Token;
use crate::host::clock;
use crate::host::replica::Replica;

/// Who sent a request.
#[derive(Debug, Clone)]
pub(super) enum Caller {
    /// The owner of the store.
    Owner,
    /// Whoever bears a token.
    Bearer(Token),
    /// Nobody in particular; may ask for life.
    Nobody,
}

impl Caller {
    /// Returns what limits the caller, now; none for the owner.
    ///
    /// # Errors
    /// 401: the token says nothing here, or no more.
    pub(super) fn rights(&self, replica: &Replica) -> Result<Option<Rights>, Problem> {
        let token = match self {
            Self::Owner => return Ok(None),
            Self::Bearer(token) => token,
            Self::Nobody => return Err(no_token()),
        };
        let now = clock::now().wall;
        let known = replica.read(|store| {
            let rights = store.rights(&token.space, &token.audience(), now).unwrap_or_default();
            rights.into_iter().find(|rights| rights.grant == token.grant)
        });
        known.map(Some).ok_or_else(|| why_not(token, replica, now))
    }

    /// Returns the one space that the caller may see; none for the owner, who may see all.
    pub(super) fn only_space(&self) -> Option<SpaceId> {
        match self {
            Self::Bearer(token) => Some(token.space),
            Self::Owner | Self::Nobody => None,
        }
    }

    /// Checks that the caller may read whatever keys begin like `prefix`.
    pub(super) fn check_read(&self, replica: &Replica, prefix: &str) -> Result<(), Problem> {
        let Some(rights) = self.rights(replica)? else { return Ok(()) };
        can(&rights, Actions::READ, "read")?;
        match (rights.prefixes.cover(prefix.as_bytes()), prefix) {
            (true, _) => Ok(()),
            (false, "") => Err(beyond(&rights, "all of the space")),
            (false, prefix) => Err(beyond(&rights, &format!("{prefix:?}"))),
        }
    }

    /// Checks that the caller may do all that a write does.
    pub(super) fn check_write(&self, replica: &Replica, write: &Write) -> Result<(), Problem> {
        let Some(rights) = self.rights(replica)? else { return Ok(()) };
        for op in &write.ops {
            match op.op {
                Op::Delete => can(&rights, Actions::DELETE, "delete")?,
                _ => can(&rights, Actions::PUT, "write")?,
            }
            if op.expect.is_some() {
                can(&rights, Actions::READ, "compare what is there, which is to read,")?;
            }
            if !rights.prefixes.cover(op.key.as_bytes()) {
                return Err(beyond(&rights, &format!("{:?}", op.key.as_str())));
            }
        }
        if write.tag.is_some() {
            can(&rights, Actions::PUT, "tag")?;
            if !rights.prefixes.cover(&[]) {
                return Err(beyond(&rights, "all of the space, as a tag is"));
            }
        }
        Ok(())
    }
}

fn can(rights: &Rights, action: Actions, what: &str) -> Result<(), Problem> {
    if rights.actions.contains(action) {
        return Ok(());
    }
    Err(Problem::new(Kind::Forbidden, format!("the token does not let {what} anything"))
        .hint("Ask its giver for another: kdelta grant create --bearer --can …")
        .with("grant", rights.grant.to_string()))
}

fn beyond(rights: &Rights, what: &str) -> Problem {
    let prefixes = rights.prefixes.iter().map(|prefix| String::from_utf8_lossy(prefix));
    let prefixes: Vec<String> = prefixes.map(|prefix| format!("{prefix:?}")).collect();
    Problem::new(Kind::Forbidden, format!("the token does not cover {what}"))
        .hint(format!("It is for keys that begin with {}", prefixes.join(" or ")))
        .with("grant", rights.grant.to_string())
}

/// There is no token, or none that says anything.
pub(super) fn no_token() -> Problem {
    Problem::new(Kind::Unauthorised, "there is no token").hint(HOW)
}

/// There is one, and it is wrong.
pub(super) fn wrong_token(detail: impl Into<String>) -> Problem {
    Problem::new(Kind::Unauthorised, detail).hint(HOW)
}

/// Says why a token does not count. Only who knows its secret is told more than that.
fn why_not(token: &Token, replica: &Replica, now: WallTime) -> Problem {
    let audience = token.audience();
    let granted = replica.read(|store| store.grants(&token.space)).unwrap_or_default();
    let granted = granted
        .into_iter()
        .find(|granted| granted.id == token.grant && granted.grant.audience == audience);
    let Some(granted) = granted else {
        return wrong_token("the token is not known here");
    };
    let renew = "Ask its giver for another: kdelta grant create --bearer --can …";
    match (granted.revoked, granted.grant.expiry_ms) {
        (Some(_), _) => wrong_token("the grant of the token was revoked").hint(renew),
        (None, Some(end)) if end < now.0 => {
            let end = point::wall_text(WallTime(end));
            wrong_token(format!("the grant of the token ended at {end}")).hint(renew)
        }
        (None, _) => wrong_token("the token is not known here"),
    }
}

/// Lets the owner pass, and nobody else.
pub(super) async fn owners_only(request: Request, next: Next) -> Response<Body> {
    match request.extensions().get::<Caller>() {
        Some(Caller::Owner) => next.run(request).await,
        Some(Caller::Bearer(_)) => {
            Problem::new(Kind::Forbidden, "only the owner of the store may ask for this")
                .hint("A token of a grant opens the keys of its space, and no more")
                .into_response()
        }
        Some(Caller::Nobody) | None => no_token().into_response(),
    }
}

const HOW: &str = "Authorization: Bearer TOKEN, or --token-file FILE: the owner's, in the file \
                   `token` of the data directory, or one of kdelta grant create --bearer";
