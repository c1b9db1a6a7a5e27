//! What an owned space promises: what was granted counts, and nothing else, from when it is known.

use kdelta_engine::base::GrantId;
use kdelta_engine::event::{Actions, Audience, Grant, Owned, Prefixes};
use kdelta_engine::store::WriteError;

use super::store::{Replica, now, open, pass, put, shows, space_of, try_put, view};

/// The owner of a space, and two others, of whom the first may write what begins with `b/`.
fn owned() -> ([Replica; 3], GrantId) {
    let mut stores = [1, 2, 3].map(|seed| open(&Default::default(), seed));
    let roots = vec![stores[0].replica()];
    let space = stores[0].create_owned_space(now(1), "default", Owned { difficulty: 0, roots });
    let (space, writer) = (space.unwrap(), stores[1].replica());
    let grant = Grant {
        audience: Audience::Replica(writer),
        actions: Actions::PUT,
        prefixes: Prefixes::new([&b"b/"[..]]).unwrap(),
        expiry_ms: None,
        depth: 0,
    };
    let granted = stores[0].grant(now(2), &space, grant, None).unwrap();
    let [owner, others @ ..] = &mut stores;
    for other in others {
        other.join_space(space, "default").unwrap();
        pass(owner, other);
    }
    (stores, GrantId(granted.tip.id.0))
}

fn revoke(owner: &mut Replica, grant: GrantId) {
    let space = space_of(owner);
    owner.revoke(now(50), &space, grant, None).unwrap();
}

pub(crate) fn who_may_write_some_keys_writes_no_others() -> bool {
    let ([_, mut writer, _], _) = owned();
    put(&mut writer, 5, "b/k", "1");
    matches!(try_put(&mut writer, 6, "a/k", "1"), Err(WriteError::Unauthorised(_)))
}

pub(crate) fn what_was_written_too_late_is_not_shown() -> bool {
    let ([mut owner, mut writer, _], grant) = owned();
    put(&mut writer, 5, "b/k", "1");
    revoke(&mut owner, grant);
    pass(&mut writer, &mut owner);
    view(&mut owner, "b/k").is_none()
}

pub(crate) fn a_revocation_changes_what_was_shown_before() -> bool {
    let ([mut owner, mut writer, mut reader], grant) = owned();
    put(&mut writer, 5, "b/k", "1");
    pass(&mut writer, &mut reader);
    assert!(shows(&mut reader, "b/k", "1"), "nothing is known of it yet");
    revoke(&mut owner, grant);
    pass(&mut owner, &mut reader);
    view(&mut reader, "b/k").is_none()
}

pub(crate) fn what_the_revoker_had_seen_stays() -> bool {
    let ([mut owner, mut writer, _], grant) = owned();
    put(&mut writer, 5, "b/k", "1");
    pass(&mut writer, &mut owner);
    revoke(&mut owner, grant);
    shows(&mut owner, "b/k", "1")
}
