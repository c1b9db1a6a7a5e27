//! Requests to sync with a peer now, and what came of them.

use std::collections::BTreeSet;

use super::link::Link;
use super::talk::Talk;
use super::{JobId, LinkId, Node, Output, Problem, Report};
use crate::base::{ReplicaId, SpaceId};
use crate::log::Disk;
use crate::sync::{Code, Stats};

/// One request to sync with one peer.
#[derive(Debug)]
pub(crate) struct Job {
    report: Report,
    pub(crate) link: Option<LinkId>,
    open: BTreeSet<SpaceId>,
    /// Of those, the ones in whose session this side pinned less than it has: they take another.
    again: BTreeSet<SpaceId>,
}

impl<D: Disk + Clone> Node<D> {
    /// Syncs all common spaces with a peer, dialling it first if need be. The answer comes as
    /// [`Output::JobDone`].
    pub fn sync_with(&mut self, now: crate::base::Now, peer: ReplicaId) -> JobId {
        self.now = now;
        self.invited.insert(peer);
        let job = JobId(self.next_job);
        self.next_job += 1;
        let report = Report {
            peer,
            spaces: Vec::new(),
            in_sync: false,
            stats: Stats::default(),
            received_events: 0,
            sent_events: 0,
            problem: None,
        };
        let (open, again) = Default::default();
        self.jobs.insert(job, Job { report, link: None, open, again });
        let link = self.links.values().find(|link| link.peer == peer && link.agreed.is_some());
        match link.map(|link| link.id) {
            Some(link) => self.start_job(job, link),
            None if self.links.values().any(|link| link.peer == peer) => {}
            None => self.dial(peer),
        }
        job
    }

    /// Starts the jobs that waited for a connection to this peer.
    pub(super) fn start_jobs(&mut self, id: LinkId) {
        let Some(link) = self.links.get(&id) else { return };
        let peer = link.peer;
        let waiting: Vec<JobId> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.report.peer == peer && job.link.is_none())
            .map(|(id, _)| *id)
            .collect();
        for job in waiting {
            self.start_job(job, id);
        }
    }

    fn start_job(&mut self, job_id: JobId, id: LinkId) {
        let Some(link) = self.links.get(&id) else { return };
        let peer = link.peer;
        let spaces: Vec<SpaceId> =
            self.store.local().spaces.iter().filter(|s| !s.retired).map(|s| s.id).collect();
        let owned =
            spaces.iter().any(|space| self.is_let_in(&peer, space) && !self.hears(&peer, space));
        let spaces: BTreeSet<SpaceId> =
            spaces.into_iter().filter(|space| self.hears(&peer, space)).collect();
        let written = self.store.written();
        let behind = |talk: &Talk| talk.pinned_at().is_some_and(|at| at < written);
        let again = spaces.iter().filter(|space| link.talks.get(space).is_some_and(behind));
        let again = again.copied().collect();
        let Some(job) = self.jobs.get_mut(&job_id) else { return };
        job.link = Some(id);
        job.open = spaces.clone();
        job.again = again;
        if spaces.is_empty() {
            let problem = if owned { Problem::NotGranted } else { Problem::NothingInCommon };
            return self.finish_job(job_id, Some(problem));
        }
        for space in spaces {
            self.open_session(id, space);
        }
    }

    /// Takes note that the session of a space ended.
    pub(super) fn job_space_done(
        &mut self,
        id: LinkId,
        space: SpaceId,
        stats: Stats,
        (received, sent): (u64, u64),
        result: Result<(), Problem>,
    ) {
        let concerned: Vec<JobId> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.link == Some(id) && job.open.contains(&space))
            .map(|(id, _)| *id)
            .collect();
        let mut again = false;
        for job_id in concerned {
            let Some(job) = self.jobs.get_mut(&job_id) else { continue };
            if job.again.remove(&space) {
                again = true;
                continue;
            }
            job.open.remove(&space);
            job.report.stats.add(&stats);
            job.report.received_events += received;
            job.report.sent_events += sent;
            match &result {
                Ok(()) => job.report.spaces.push(space),
                // That a space is not shared says less than any other problem.
                Err(Problem::Refused(Code::NOT_ADMITTED, _)) if job.report.problem.is_some() => {}
                Err(problem) => job.report.problem = Some(problem.clone()),
            }
            if job.open.is_empty() {
                self.finish_job(job_id, None);
            }
        }
        if again {
            self.open_session(id, space);
        }
    }

    fn finish_job(&mut self, id: JobId, problem: Option<Problem>) {
        let Some(mut job) = self.jobs.remove(&id) else { return };
        // A space that only one side holds is none that the two have in common.
        let refused = matches!(&job.report.problem, Some(Problem::Refused(code, _))
            if *code == Code::NOT_ADMITTED);
        if refused {
            let some = !job.report.spaces.is_empty();
            job.report.problem = if some { None } else { Some(Problem::NothingInCommon) };
        }
        if problem.is_some() {
            job.report.problem = problem;
        }
        job.report.in_sync = job.report.problem.is_none() && !job.report.spaces.is_empty();
        let output = Output::JobDone { job: id, report: job.report };
        self.outbox.push(self.store.written(), output);
    }

    pub(super) fn fail_jobs_of(&mut self, link: &Link, problem: Problem) {
        let concerned: Vec<JobId> = self
            .jobs
            .iter()
            .filter(|(_, job)| {
                job.link == Some(link.id) || (job.link.is_none() && job.report.peer == link.peer)
            })
            .map(|(id, _)| *id)
            .collect();
        for job in concerned {
            self.finish_job(job, Some(problem.clone()));
        }
    }

    pub(super) fn fail_jobs_to(&mut self, peer: ReplicaId, problem: &Problem) {
        let concerned: Vec<JobId> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.report.peer == peer && job.link.is_none())
            .map(|(id, _)| *id)
            .collect();
        for job in concerned {
            self.finish_job(job, Some(problem.clone()));
        }
    }
}
