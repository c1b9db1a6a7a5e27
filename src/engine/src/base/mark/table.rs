//! The marks, by floor and name.

use super::Mark;

/// All marks. Each stands at exactly one place of the code.
pub const ALL: &[Mark] = &[
    Mark {
        name: "crdt-many-live-events",
        what: "a key has so many live events that they are indexed",
    },
    Mark { name: "crdt-types-conflict", what: "values of two types are live in one key" },
    Mark { name: "log-cannot-be-read", what: "the disk does not read a part of a segment" },
    Mark { name: "log-disk-full", what: "the log refuses a record for want of space" },
    Mark {
        name: "log-disk-read-only",
        what: "the log refuses a record because the disk takes no writes",
    },
    Mark { name: "log-file-cut-short", what: "a segment is shorter than it was" },
    Mark { name: "log-header-damaged", what: "the header of a segment is damaged" },
    Mark { name: "log-lists-renewed", what: "a repair writes a damaged list of segments anew" },
    Mark {
        name: "log-manifest-not-written",
        what: "a new segment cannot be named in the manifest yet",
    },
    Mark {
        name: "log-mark-outlived",
        what: "a clean mark is there, and the last end was not orderly",
    },
    Mark {
        name: "log-old-tail-moved",
        what: "a tail that an earlier process left goes to a new segment",
    },
    Mark {
        name: "log-older-manifest-serves",
        what: "one generation of the manifest is damaged, the other serves",
    },
    Mark { name: "log-opened-clean", what: "the clean mark covers all: nothing was recovered" },
    Mark {
        name: "log-read-at-last",
        what: "a segment that could not be read whole is judged again",
    },
    Mark {
        name: "log-read-only-for-good",
        what: "the disk failed twice: no more changes until the next opening",
    },
    Mark { name: "log-records-moved", what: "records whose sync failed go to a new segment" },
    Mark { name: "log-rot-below-the-mark", what: "bytes that were durable are damaged" },
    Mark { name: "log-segment-lost", what: "a segment that something names is not there" },
    Mark {
        name: "log-segment-replaced",
        what: "a repaired segment takes the place of a damaged one",
    },
    Mark { name: "log-segment-sealed", what: "a segment is sealed" },
    Mark { name: "log-stalled", what: "records wait in memory for a disk that takes them" },
    Mark { name: "log-stray-put-away", what: "a segment file that belongs nowhere is put away" },
    Mark { name: "log-tail-quarantined", what: "what is cut from a segment is kept apart" },
    Mark {
        name: "log-tail-written-again",
        what: "a tail that may not be durable is written and synced again",
    },
    Mark { name: "log-torn-tail", what: "a torn tail is found" },
    Mark { name: "node-admitted-by-ticket", what: "a ticket admits a peer" },
    Mark {
        name: "node-cannot-take-a-chunk",
        what: "this side's disk or log refuses a chunk of a peer's",
    },
    Mark { name: "node-chunk-spooled", what: "the first part of a large commit goes to the spool" },
    Mark { name: "node-dial-failed-again", what: "a peer was not reached several times in a row" },
    Mark {
        name: "node-graft-of-no-use",
        what: "what was asked for by name does not come: a session is opened",
    },
    Mark { name: "node-grafted", what: "what a peer named and did not come is asked for" },
    Mark {
        name: "node-group-taken-back",
        what: "the disk did not take a group that was shown already",
    },
    Mark { name: "node-no-version-in-common", what: "two sides speak no common version" },
    Mark { name: "node-pruned", what: "what a peer pushes had come already: names are enough" },
    Mark {
        name: "node-push-cannot-be-taken",
        what: "a push lacks what it builds upon: a session is opened",
    },
    Mark { name: "node-pushed-live", what: "new commits are pushed to a peer" },
    Mark {
        name: "node-reached-after-failures",
        what: "a peer is reached that several times was not",
    },
    Mark {
        name: "node-request-ends-early",
        what: "of what was asked for something cannot be served yet",
    },
    Mark {
        name: "node-session-begun-again",
        what: "a session is begun again because a log was closed meanwhile",
    },
    Mark {
        name: "node-session-fell-silent",
        what: "a session is broken off because it did not come forward",
    },
    Mark { name: "node-session-not-admitted", what: "a peer that is not admitted opens a session" },
    Mark { name: "node-stray-proof", what: "a proof of a fork comes that is of no use" },
    Mark { name: "node-ticket-refused", what: "a ticket is unknown, used up or expired" },
    Mark { name: "node-told-of-another", what: "a peer says where a third replica is" },
    Mark {
        name: "node-twin-connection-closed",
        what: "two replicas dialled each other at once: one connection goes",
    },
    Mark {
        name: "node-waiting-tried-again",
        what: "commits that waited are tried again after a while",
    },
    Mark { name: "store-branch-begun", what: "a branch of a forked log begins to count" },
    Mark {
        name: "store-branch-kept",
        what: "what is held of a forked log is built upon, so that it counts",
    },
    Mark {
        name: "store-cannot-vouch",
        what: "nothing vouches for the part of a log that is asked for",
    },
    Mark { name: "store-commit-waits-for-deps", what: "a commit waits for what it builds upon" },
    Mark { name: "store-commit-waits-for-time", what: "a commit from the future waits" },
    Mark {
        name: "store-counter-folded-anew",
        what: "a part of a counter's sum is superseded: it is folded anew",
    },
    Mark {
        name: "store-damaged-sidecar-rebuilt",
        what: "a read meets a damaged sidecar, and it is built anew",
    },
    Mark {
        name: "store-directory-was-copied",
        what: "the store lies elsewhere than before: it is a copy",
    },
    Mark { name: "store-key-retyped", what: "a key of one type is replaced by another" },
    Mark {
        name: "store-log-closed-ahead",
        what: "a log is closed before anything beyond its fork came",
    },
    Mark {
        name: "store-log-closed-and-folded-anew",
        what: "a log is closed of which more than its fork is held",
    },
    Mark {
        name: "store-missing-sidecar-built",
        what: "a sealed segment has no sidecar that serves",
    },
    Mark {
        name: "store-moved-records-followed",
        what: "the index follows records to a new segment",
    },
    Mark { name: "store-new-incarnation", what: "the store goes on under a new incarnation" },
    Mark {
        name: "store-older-local-file-serves",
        what: "one generation of the local file is damaged, the other serves",
    },
    Mark { name: "store-read-without-what-is-lost", what: "a read makes do with what is intact" },
    Mark { name: "store-branch-met-twice", what: "the log holds a commit of a branch twice" },
    Mark { name: "store-record-met-twice", what: "the log holds one commit twice" },
    Mark { name: "store-repair-fell-short", what: "a repair did not bring everything back" },
    Mark { name: "store-repaired", what: "a repair made a damaged segment whole" },
    Mark {
        name: "store-replayed-for-a-fork",
        what: "a fork is met on opening: it is replayed knowing the fork",
    },
    Mark {
        name: "store-set-aside-and-taken",
        what: "a commit behind damage is taken once its past is back",
    },
    Mark {
        name: "store-sidecar-in-memory",
        what: "a sidecar cannot be written, and lives in memory",
    },
    Mark {
        name: "store-suspect-counts",
        what: "a commit of a forked log counts because another builds upon it",
    },
    Mark { name: "store-vouched-anew", what: "what vouches for a log was lost and comes again" },
    Mark {
        name: "store-vouched-by-a-fork-proof",
        what: "the proof of a fork vouches for what lies before it",
    },
    Mark { name: "store-waiting-commit-taken", what: "a commit that waited is applied" },
    Mark {
        name: "store-waiting-gives-way",
        what: "the log that takes most of the waiting room makes room for another",
    },
    Mark { name: "store-waiting-room-full", what: "a commit that would wait finds no room" },
    Mark {
        name: "store-was-set-back",
        what: "a peer brings a commit of our own that we do not have",
    },
    Mark {
        name: "sync-by-ranges",
        what: "two large frontiers are compared by fingerprints of ranges",
    },
    Mark {
        name: "sync-chunk-in-parts",
        what: "a commit is larger than a frame, and travels in parts",
    },
    Mark {
        name: "sync-credit-used-up",
        what: "a peer has not yet given back the credit for what it was sent",
    },
    Mark { name: "sync-ended-short", what: "a session ends, and something is lacking" },
    Mark { name: "sync-fork-found", what: "two sides find where their chains of a log part" },
    Mark { name: "sync-limit-met", what: "a peer says or asks for more than a session may" },
    Mark { name: "sync-proofs-asked-for", what: "a peer knows of forks that this side does not" },
    Mark { name: "sync-refused-by-peer", what: "a peer breaks a session off" },
    Mark {
        name: "sync-unknown-frame-skipped",
        what: "a frame of an unknown optional type is passed over",
    },
    Mark { name: "node-shut-out", what: "a peer may not read a space any more" },
    Mark { name: "store-others-count", what: "an act has other commits count than did before" },
];
