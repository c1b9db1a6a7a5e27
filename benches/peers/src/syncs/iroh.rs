//! iroh-docs: replicas on disk, their contents as blobs, over an endpoint of iroh on loopback.
//!
//! The endpoints have no relay and look nobody up: one is told the address of the other.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use iroh::endpoint::presets;
use iroh::protocol::Router;
use iroh::{Endpoint, EndpointAddr, RelayMode};
use iroh_blobs::BlobsProtocol;
use iroh_blobs::store::fs::FsStore;
use iroh_docs::api::Doc;
use iroh_docs::api::protocol::{AddrInfoOptions, ShareMode};
use iroh_docs::engine::LiveEvent;
use iroh_docs::protocol::Docs;
use iroh_docs::store::Query;
use iroh_docs::{AuthorId, Capability};
use iroh_gossip::net::Gossip;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_stream::StreamExt as _;

use super::{Peer, Taken, bounded};
use crate::{Outcome, Res, data};

/// A node that has everything, and one that comes to it.
pub(super) struct IrohDocs {
    runtime: Runtime,
    hub: Node,
    doc: Doc,
    capability: Capability,
    authors: Vec<AuthorId>,
    reader: Option<(Node, Doc, TempDir)>,
}

impl IrohDocs {
    pub(super) fn open(dir: &Path) -> Res<Self> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).enable_all().build()?;
        let (hub, doc, capability) = bounded(&runtime, async {
            let hub = Node::open(dir).await?;
            let doc = hub.docs.create().await?;
            // Whoever shares a document answers for it from then on.
            let ticket = doc.share(ShareMode::Write, AddrInfoOptions::Id).await?;
            Ok((hub, doc, ticket.capability))
        })?;
        Ok(Self { runtime, hub, doc, capability, authors: Vec::new(), reader: None })
    }
}

impl Peer for IrohDocs {
    fn write(&mut self, author: u64, numbers: Range<u64>, _: u64) -> Outcome {
        let (author, authors) = (usize::try_from(author)?, &mut self.authors);
        bounded(&self.runtime, async {
            while authors.len() <= author {
                authors.push(self.hub.docs.author_create().await?);
            }
            for number in numbers {
                let (key, value) = (data::key(number).to_vec(), data::value(number).to_vec());
                self.doc.set_bytes(authors[author], key, value).await?;
            }
            Ok(())
        })
    }

    fn empty(&mut self, dir: TempDir) -> Outcome {
        bounded(&self.runtime, async {
            if let Some((node, ..)) = self.reader.take() {
                node.close().await?;
            }
            let node = Node::open(dir.path()).await?;
            let doc = node.docs.import_namespace(self.capability.clone()).await?;
            self.reader = Some((node, doc, dir));
            Ok(())
        })
    }

    fn sync(&mut self, news: u64) -> Res<Taken> {
        let (_, doc, _) = self.reader.as_ref().ok_or("nobody came")?;
        let time = bounded(&self.runtime, async {
            let mut events = doc.subscribe().await?;
            let begun = Instant::now();
            doc.start_sync(vec![self.hub.addr()?]).await?;
            let (mut contents, mut time, mut ended) = (0, None, false);
            while time.is_none() || !ended {
                let event = events.next().await;
                match event.ok_or("the events ended")?? {
                    LiveEvent::ContentReady { .. } => contents += 1,
                    // Two may be on their way at once, of which one may fail: contents decide.
                    LiveEvent::SyncFinished(_) => ended = true,
                    _ => {}
                }
                if contents == news && time.is_none() {
                    time = Some(begun.elapsed());
                }
            }
            doc.leave().await?;
            Ok(time.ok_or("not everything came")?)
        })?;
        Ok(Taken { time, wire: None })
    }

    fn check(&mut self, events: u64) -> Outcome {
        let (node, doc, _) = self.reader.as_ref().ok_or("nobody came")?;
        let found = bounded(&self.runtime, async {
            let mut found = 0;
            let mut entries = std::pin::pin!(doc.get_many(Query::all()).await?);
            while let Some(entry) = entries.next().await {
                found += u64::from(node.blobs.has(entry?.content_hash()).await?);
            }
            for number in [0, events / 2, events.saturating_sub(1)] {
                let query = Query::key_exact(data::key(number));
                let entry = doc.get_one(query).await?.ok_or("a key has no entry")?;
                if node.blobs.get_bytes(entry.content_hash()).await? != data::value(number)[..] {
                    return Err("a value is not what was put".into());
                }
            }
            Ok(found)
        })?;
        if found == events { Ok(()) } else { Err(format!("{found} of {events} came").into()) }
    }

    fn close(self: Box<Self>) -> Outcome {
        let Self { runtime, hub, reader, .. } = *self;
        bounded(&runtime, async {
            if let Some((node, ..)) = reader {
                node.close().await?;
            }
            hub.close().await
        })
    }
}

/// An endpoint with the three protocols that documents need.
struct Node {
    router: Router,
    docs: Docs,
    blobs: FsStore,
}

impl Node {
    async fn open(dir: &Path) -> Res<Self> {
        let endpoint = Endpoint::builder(presets::Minimal)
            .relay_mode(RelayMode::Disabled)
            .clear_ip_transports()
            .bind_addr(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?
            .bind()
            .await?;
        let blobs = FsStore::load(dir.join("blobs")).await?;
        let gossip = Gossip::builder().spawn(endpoint.clone());
        let docs = Docs::persistent(dir.to_path_buf());
        let docs = docs.spawn(endpoint.clone(), (*blobs).clone(), gossip.clone()).await?;
        let router = Router::builder(endpoint)
            .accept(iroh_blobs::ALPN, BlobsProtocol::new(&blobs, None))
            .accept(iroh_gossip::ALPN, gossip)
            .accept(iroh_docs::ALPN, docs.clone())
            .spawn();
        Ok(Self { router, docs, blobs })
    }

    fn addr(&self) -> Res<EndpointAddr> {
        let endpoint = self.router.endpoint();
        let at = endpoint.bound_sockets().pop().ok_or("the endpoint has no address")?;
        Ok(EndpointAddr::new(endpoint.id()).with_ip_addr(at))
    }

    /// Ends the protocols, and with them the blobs.
    async fn close(self) -> Outcome {
        Ok(self.router.shutdown().await?)
    }
}
