//! Every bound of the system, with its unit and its reason.
//!
//! A bound is checked on every way in: from callers, from disk and from peers. The relations
//! between bounds are asserted when the crate is compiled.

/// Longest key, in bytes. Keys are names, not documents; sidecars hold them whole.
pub const KEY_BYTES_MAX: usize = 1024;
/// Largest payload of one event, in bytes.
pub const VALUE_BYTES_MAX: usize = 8 << 20;
/// Largest sum of the leaf contents (skeleton, salt, key, payload, meta) of one commit, in bytes.
pub const COMMIT_BYTES_MAX: usize = 16 << 20;
/// Most events in one commit.
pub const COMMIT_EVENTS_MAX: usize = 4096;
/// Most deps in one commit; an author that has seen more heads writes `ack` commits first.
pub const DEPS_MAX: usize = 256;
/// Most dots that one event lists as superseded; beyond that it carries a cut.
pub const PREDS_MAX: usize = 1024;
/// Most entries in a cut.
pub const CUT_ENTRIES_MAX: usize = 65_536;
/// Largest meta leaf (note, tag and request id together), in bytes.
pub const META_BYTES_MAX: usize = 64 << 10;
/// Longest tag name, in bytes.
pub const TAG_BYTES_MAX: usize = 256;
/// Longest request id, in bytes.
pub const REQUEST_ID_BYTES_MAX: usize = 128;
/// Deepest nesting of a JSON value: bounds the recursion of every reader of values.
pub const JSON_DEPTH_MAX: usize = 128;
/// Longest JSON text that is read at all, in bytes: room for white space and escapes, which go.
pub const JSON_TEXT_BYTES_MAX: usize = 4 * VALUE_BYTES_MAX;
/// Most roots of an owned space: its genesis names them for ever.
pub const ROOTS_MAX: usize = 16;
/// Most work that a space may ask of a replica id, in bits: finding one of 40 takes days.
pub const DIFFICULTY_MAX: u8 = 40;
/// Most prefixes of one grant.
pub const GRANT_PREFIXES_MAX: usize = 16;
/// Most bytes of all prefixes of one grant together: the header of a grant is never erased, stays
/// in memory, and two of them fit into the proof of a fork.
pub const GRANT_PREFIX_BYTES_MAX: usize = 2048;
/// How often a grant can be passed on, at most: bounds the chain that a verdict walks.
pub const GRANT_DEPTH_MAX: u8 = 8;
/// Latest expiry of a grant, in milliseconds since 1970: the greatest that a stamp can have.
pub const EXPIRY_MS_MAX: u64 = (1 << 48) - 1;
/// After how long an ended grant is taken back by who gave it, in milliseconds: 30 days. What was
/// written under it before the end has so long to arrive.
pub const SEAL_AFTER_MS: u64 = 30 * 24 * 3600 * 1000;
/// Most sound grants and revocations in the past of another one: bounds what a space can make each
/// of its replicas keep in memory.
pub const ACTS_MAX: usize = 10_000;
/// The same for those that roots write: whatever others fill, a root can still take back.
pub const ROOT_ACTS_MAX: usize = 2 * ACTS_MAX;
/// What one grant or revocation takes in memory, in bytes, its prefixes apart: about.
pub const ACT_BYTES: usize = 640;
/// Most bytes that the grants and revocations of one space take in memory.
pub const AUTHORITY_BYTES_MAX: usize = 32 << 20;
/// A commit that lies further ahead of the local clock waits, in milliseconds (10 minutes).
pub const DRIFT_MS_MAX: u64 = 10 * 60 * 1000;
/// Largest record in a segment, in bytes: one commit and what its compact form adds.
pub const RECORD_BYTES_MAX: usize = COMMIT_BYTES_MAX + (1 << 20);
/// Deepest inclusion proof, in hashes: a log has fewer than 2^63 commits.
pub const PROOF_HASHES_MAX: usize = 64;
/// Greatest seq of a commit in its log: keeps trees within 63 levels.
pub const SEQ_MAX: u64 = (1 << 63) - 1;
/// Most heads by which a tag names a point other than its own commit.
pub const TAG_HEADS_MAX: usize = 512;
/// Most logs that the dictionary of one segment or chunk names: more than one commit can name.
pub const DICTIONARY_ENTRIES_MAX: usize = 1 << 19;
/// Whole frontiers travel in the hello up to this many logs; more are reconciled by ranges.
pub const FRONTIER_WHOLE_LOGS_MAX: usize = 256;
/// Largest chunk of commits on the wire, in bytes; a larger commit travels alone, in parts of this.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;
/// Most logs in a version vector or ancestry index, which stand for a whole space.
pub const VECTOR_LOGS_MAX: usize = 1 << 20;
/// Longest name of a map's field, in bytes: fields are names, like keys.
pub const FIELD_BYTES_MAX: usize = 1024;

/// Most spaces in one store: each costs a table in every sidecar.
pub const SPACES_MAX: usize = 1024;
/// Longest local name of a space, in bytes.
pub const SPACE_NAME_BYTES_MAX: usize = 64;
/// Most peers that a store remembers.
pub const PEERS_MAX: usize = 4096;
/// Most addresses that are remembered of one peer.
pub const PEER_ADDRESSES_MAX: usize = 16;
/// Most replicas of which is known where the network says they are, besides those admitted.
pub const NEARBY_MAX: usize = 256;
/// Most addresses of one replica that are taken from the network: anybody may say them, and those
/// that proved good must still be tried.
pub const NEARBY_ADDRESSES_MAX: usize = PEER_ADDRESSES_MAX / 2;
/// Most addresses of one replica in one message of a peer.
pub const TOLD_ADDRESSES_MAX: usize = NEARBY_ADDRESSES_MAX;
/// Most replicas of which a peer says where they are at one time.
pub const PLACES_MAX: usize = 64;
/// Longest body of what a peer says of that, in bytes.
pub const PLACES_BYTES_MAX: usize = 8 << 10;
/// Up to how many connections a node that is open to all makes by itself, to replicas that it is
/// told of and does not know.
pub const OPEN_LINKS: usize = 8;
/// Longest address, in bytes: a host name has at most 253.
pub const ADDRESS_BYTES_MAX: usize = 280;
/// Most tickets that can be open at once.
pub const TICKETS_MAX: usize = 4096;
/// Most earlier lives of a store that are remembered.
pub const INCARNATIONS_MAX: usize = 4096;
/// Largest local file, in bytes.
pub const LOCAL_BYTES_MAX: usize = 64 << 20;
/// Largest frame on the wire, in bytes: one part of a chunk and its head. Small, so that other
/// spaces, acknowledgements and credit get through between the parts of a large commit.
pub const FRAME_BYTES_MAX: usize = CHUNK_BYTES_MAX + (4 << 10);
/// Largest chunk put together from its parts, in bytes: one largest commit with its proofs.
pub const CHUNK_WHOLE_BYTES_MAX: usize = RECORD_BYTES_MAX + (1 << 20);
/// Largest frame that carries no commits, in bytes; also of optional frames that are skipped.
pub const CONTROL_FRAME_BYTES_MAX: usize = 128 << 10;
/// Size at which a message of range reconciliation is closed and another begun, in bytes.
pub const RANGES_BYTES_TARGET: usize = 60 << 10;
/// Most parts that a range is split into by one answer of reconciliation (Meyer 2022).
pub const RANGE_SPLIT: usize = 16;
/// Ranges of at most this many frontier entries are answered by the entries themselves.
pub const RANGE_LEAF_LOGS_MAX: usize = 32;
/// Most frontier entries in one range of a message.
pub const RANGE_ENTRIES_MAX: usize = 256;
/// Most ranges (skipped ones aside) and most entries in one batch of reconciliation. What is over
/// is left for the next session, which finds it because it is still different.
pub const RANGES_PER_BATCH_MAX: usize = 65_536;
/// Most batches of reconciliation in one session, both ways: each halves what is open many times,
/// so an honest peer stays far below.
pub const RECONCILE_BATCHES_MAX: u32 = 32;
/// Most logs that one session finds to differ and takes up; the rest is taken by the next one.
pub const SESSION_LOGS_MAX: usize = 65_536;
/// Most runs in one message that asks for commits.
pub const RUNS_PER_MESSAGE_MAX: usize = 1024;
/// Most runs that a peer may ask for at once, over several messages.
pub const RUNS_PER_WANT_MAX: usize = SESSION_LOGS_MAX + MISSING_RANGES_MAX;
/// Most requests for commits that a peer may have open in one session.
pub const WANTS_OPEN_MAX: usize = 16;
/// Most requests for commits in one session.
pub const WANTS_PER_SESSION_MAX: u32 = 1024;
/// Most ranges of missing commits that one hello of a session lists.
pub const MISSING_RANGES_MAX: usize = 1024;
/// Most tips in one acknowledgement.
pub const ACKED_TIPS_MAX: usize = 1024;
/// Most peers of a space that new commits are pushed to unless they ask for it: enough to reach
/// many in few hops, few enough that a large commit is not sent to everybody at once.
pub const EAGER_PEERS_MAX: usize = 6;
/// Most peers that are told of new commits at once; of more the others come soon after.
pub const TOLD_AT_ONCE_MAX: usize = 12;
/// Most logs of which one peer named commits that are waited for; beyond that a session finds them.
pub const AWAITED_LOGS_MAX: usize = 1024;
/// Most searches for a fork point that one session begins; more forks are reported only.
pub const FORK_SEARCHES_MAX: usize = 64;
/// Most questions of one search for a fork point: seqs have 64 bits, and the first is a check.
pub const FORK_QUESTIONS_MAX: usize = 66;
/// Largest proof of a fork, in bytes: two headers with all their deps, and two vouchers.
pub const FORK_PROOF_BYTES_MAX: usize = 64 << 10;
/// Most closed logs that one hello of a session lists; of more, each hello lists others.
pub const CLOSED_LISTED_MAX: usize = 256;
/// Most closed logs in one space that are kept. A log that is forked beyond them stays apart.
pub const CLOSED_LOGS_MAX: usize = 1 << 16;
/// Longest text in a refusal or farewell, in bytes of UTF-8.
pub const PEER_TEXT_BYTES_MAX: usize = 256;
/// Bytes of commits that a peer may have on their way to us before we have applied some.
pub const CREDIT_WINDOW_BYTES: u64 = 4 << 20;

const _: () = assert!(VALUE_BYTES_MAX + KEY_BYTES_MAX < COMMIT_BYTES_MAX);
const _: () = assert!(COMMIT_BYTES_MAX < RECORD_BYTES_MAX);
const _: () = assert!(RECORD_BYTES_MAX < CHUNK_WHOLE_BYTES_MAX);
const _: () = assert!(CHUNK_BYTES_MAX < FRAME_BYTES_MAX);
const _: () = assert!(CONTROL_FRAME_BYTES_MAX < FRAME_BYTES_MAX);
// One item of reconciliation (a bound and its entries) fits between the target and the limit.
const _: () = assert!(RANGES_BYTES_TARGET + (RANGE_ENTRIES_MAX + 1) * 82 < CONTROL_FRAME_BYTES_MAX);
const _: () =
    assert!(RANGE_LEAF_LOGS_MAX <= RANGE_ENTRIES_MAX && RANGE_LEAF_LOGS_MAX >= RANGE_SPLIT);
// The largest hello of a session: its whole frontier, its missing ranges and its closed logs.
const _: () = assert!(
    FRONTIER_WHOLE_LOGS_MAX * 82 + MISSING_RANGES_MAX * 60 + CLOSED_LISTED_MAX * 50 + 256
        < CONTROL_FRAME_BYTES_MAX
);
// Two headers of the largest size (their deps, the prefixes of a grant, and 256 bytes for all else)
// and two vouchers.
const _: () = assert!(
    2 * (DEPS_MAX * 82 + GRANT_PREFIX_BYTES_MAX + 256 + PROOF_HASHES_MAX * 32 + 256) + 16
        < FORK_PROOF_BYTES_MAX
        && FORK_PROOF_BYTES_MAX < CONTROL_FRAME_BYTES_MAX
);
const _: () = assert!(RUNS_PER_MESSAGE_MAX * 92 + 64 < CONTROL_FRAME_BYTES_MAX);
const _: () = assert!(AWAITED_LOGS_MAX <= RUNS_PER_MESSAGE_MAX);
const _: () = assert!(ACKED_TIPS_MAX * 82 + 64 < CONTROL_FRAME_BYTES_MAX);
const _: () = assert!(COMMIT_EVENTS_MAX <= u16::MAX as usize);
const _: () = assert!(META_BYTES_MAX > TAG_BYTES_MAX + REQUEST_ID_BYTES_MAX);
const _: () = assert!(DICTIONARY_ENTRIES_MAX > COMMIT_BYTES_MAX / 41 + DEPS_MAX + 1);
const _: () = assert!(TAG_HEADS_MAX * 82 + TAG_BYTES_MAX < META_BYTES_MAX);
const _: () = assert!(RECORD_BYTES_MAX < u32::MAX as usize);
const _: () = assert!(CUT_ENTRIES_MAX <= VECTOR_LOGS_MAX);
const _: () = assert!(FIELD_BYTES_MAX < VALUE_BYTES_MAX);
const _: () = assert!(KEY_BYTES_MAX <= GRANT_PREFIX_BYTES_MAX);
const _: () = assert!(ROOT_ACTS_MAX * ACT_BYTES < AUTHORITY_BYTES_MAX);
const _: () = assert!(ACTS_MAX * (ACT_BYTES + GRANT_PREFIX_BYTES_MAX) < AUTHORITY_BYTES_MAX);

/// Largest segment file, in bytes; offsets in it have 32 bits.
pub const SEGMENT_BYTES_MAX: usize = 1 << 30;
/// Most segments of one log: bounds what a manifest can make a reader allocate.
pub const SEGMENTS_MAX: usize = 1 << 20;
/// Largest group of records that is written at once, in bytes; a larger record goes alone.
pub const GROUP_BYTES_MAX: usize = 32 << 20;
/// Most bytes of the log that are kept in memory until a sync, in bytes.
pub const UNDURABLE_BYTES_MAX: usize = 64 << 20;
/// Most places of damage that one list names; a file with more of them is damaged throughout.
pub const DAMAGE_LISTED_MAX: usize = 1024;

const _: () = assert!(RECORD_BYTES_MAX < GROUP_BYTES_MAX);
const _: () = assert!(GROUP_BYTES_MAX < UNDURABLE_BYTES_MAX);
const _: () = assert!(UNDURABLE_BYTES_MAX < SEGMENT_BYTES_MAX);
const _: () = assert!(SEGMENT_BYTES_MAX < u32::MAX as usize);

/// Longest composite key in a sidecar, in bytes: a key and what the store puts around it.
pub const SIDECAR_KEY_BYTES_MAX: usize = 1100;
/// Largest folded state that a sidecar keeps, in bytes; a larger one is left out and folded anew.
pub const SIDECAR_STATE_BYTES_MAX: usize = 32 << 20;
/// Largest piece of a sidecar (what one checksum covers and one read takes), in bytes.
pub const SIDECAR_PIECE_BYTES_MAX: usize = 64 << 20;
/// Deepest key index of a sidecar, in levels. Each has a fan-out of at least 8.
pub const SIDECAR_DEPTH_MAX: u32 = 12;

const _: () = assert!(KEY_BYTES_MAX + 64 <= SIDECAR_KEY_BYTES_MAX);
const _: () = assert!(SIDECAR_STATE_BYTES_MAX <= SIDECAR_PIECE_BYTES_MAX);
const _: () = assert!(SIDECAR_PIECE_BYTES_MAX < u32::MAX as usize);

/// Most names of keys by which one place of damage says whom it concerns.
pub const AFFECTED_NAMES_MAX: usize = 1000;
/// Most logs in one space.
pub const LOGS_MAX: usize = 1 << 20;
/// Most commits in one chunk: bounds what a reader must hold at once.
pub const CHUNK_COMMITS_MAX: usize = 1 << 16;
/// Most logs in one chunk.
pub const CHUNK_LOGS_MAX: usize = 1 << 14;
