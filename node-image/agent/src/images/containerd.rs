//! The calls of containerd that a load needs. Its messages are in `proto`.

use std::collections::HashMap;

use http::uri::PathAndQuery;
use prost::Message;
use tonic::client::Grpc;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use super::proto;
use super::trouble::{Result, Trouble, failed};

/// Where containerd listens in a node.
const SOCKET: &str = "unix:///run/containerd/containerd.sock";
/// containerd's namespace of the kubelet.
const NAMESPACE: &str = "k8s.io";
/// The snapshotter of the nodes.
pub(super) const SNAPSHOTTER: &str = "overlayfs";
/// The largest blob, bytes: it is written in one message, and containerd accepts messages of 16 MiB.
const MAX_BLOB: usize = 12 << 20;

/// The labels of one of containerd's objects.
pub(super) type Labels = HashMap<String, String>;

/// A connection to containerd.
#[derive(Debug)]
pub(super) struct Containerd {
    grpc: Grpc<Channel>,
    lease: Option<String>,
}

impl Containerd {
    pub(super) async fn connect() -> Result<Self> {
        let channel = Endpoint::from_static(SOCKET).connect().await;
        let channel = channel.map_err(|source| failed(format!("containerd does not answer: {source}")))?;
        Ok(Self { grpc: Grpc::new(channel), lease: None })
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("containerd-namespace", MetadataValue::from_static(NAMESPACE));
        if let Some(lease) = self.lease.as_deref().and_then(|lease| lease.parse().ok()) {
            request.metadata_mut().insert("containerd-lease", lease);
        }
        request
    }

    async fn ready(&mut self) -> Result<(), Status> {
        self.grpc.ready().await.map_err(|source| Status::unavailable(source.to_string()))
    }

    async fn call<Q, A>(&mut self, method: &'static str, message: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        self.ready().await?;
        let request = self.request(message);
        let answer = self.grpc.unary(request, PathAndQuery::from_static(method), ProstCodec::<Q, A>::default());
        Ok(answer.await?.into_inner())
    }

    // ---- leases ----

    /// Keeps everything that is created from now on until `end_lease`, or until `expiry`.
    pub(super) async fn begin_lease(&mut self, id: String, expiry: String) -> Result<()> {
        let labels = Labels::from([("containerd.io/gc.expire".to_owned(), expiry)]);
        let message = proto::CreateLease { id: id.clone(), labels };
        self.call::<_, ()>("/containerd.services.leases.v1.Leases/Create", message).await?;
        self.lease = Some(id);
        Ok(())
    }

    /// Keeps a snapshot that existed before.
    pub(super) async fn keep_snapshot(&mut self, name: &str) -> Result<()> {
        let Some(lease) = self.lease.clone() else { return Ok(()) };
        let resource = proto::Resource { id: name.to_owned(), kind: format!("snapshots/{SNAPSHOTTER}") };
        let message = proto::AddResource { id: lease, resource: Some(resource) };
        Ok(self.call("/containerd.services.leases.v1.Leases/AddResource", message).await?)
    }

    /// Releases everything that no image uses; with `wait`, it is removed when this returns.
    pub(super) async fn end_lease(&mut self, wait: bool) -> Result<()> {
        let Some(id) = self.lease.take() else { return Ok(()) };
        let message = proto::DeleteLease { id, sync: wait };
        Ok(self.call("/containerd.services.leases.v1.Leases/Delete", message).await?)
    }

    // ---- images ----

    /// All image records.
    pub(super) async fn images(&mut self) -> Result<Vec<proto::Image>> {
        let message = proto::ListImages { filters: Vec::new() };
        let found: proto::Images = self.call("/containerd.services.images.v1.Images/List", message).await?;
        Ok(found.images)
    }

    /// Assigns a name to an image.
    pub(super) async fn set_image(&mut self, image: proto::Image) -> Result<()> {
        // All labels are replaced: those of the runtime would tell it that it knows the image of this name already.
        let paths = ["target", "labels"].map(str::to_owned).to_vec();
        let message = proto::SetImage { image: Some(image.clone()) };
        match self.call::<_, proto::SetImage>("/containerd.services.images.v1.Images/Create", message).await {
            Err(status) if status.code() == Code::AlreadyExists => {
                let message = proto::UpdateImage { image: Some(image), mask: Some(proto::FieldMask { paths }) };
                self.call::<_, proto::SetImage>("/containerd.services.images.v1.Images/Update", message).await?;
            }
            made => drop(made?),
        }
        Ok(())
    }

    /// The image ID that the kubelet gets for a name.
    pub(super) async fn shown(&mut self, name: &str) -> Result<Option<String>> {
        let message = proto::ImageStatus { image: Some(proto::ImageSpec { image: name.to_owned() }) };
        let found: proto::ImageStatusAnswer = self.call("/runtime.v1.ImageService/ImageStatus", message).await?;
        Ok(found.image.map(|image| image.id))
    }

    // ---- content ----

    /// A blob; `None` if it does not exist.
    pub(super) async fn blob(&mut self, digest: &str) -> Result<Option<Vec<u8>>> {
        self.ready().await?;
        let request = self.request(proto::ReadContent { digest: digest.to_owned() });
        let path = PathAndQuery::from_static("/containerd.services.content.v1.Content/Read");
        let codec = ProstCodec::<_, proto::ContentPart>::default();
        let mut parts = match self.grpc.server_streaming(request, path, codec).await {
            Ok(parts) => parts.into_inner(),
            Err(status) if status.code() == Code::NotFound => return Ok(None),
            Err(status) => return Err(status.into()),
        };
        let mut blob = Vec::new();
        loop {
            match parts.message().await {
                Ok(Some(part)) => blob.extend_from_slice(&part.data),
                Ok(None) => return Ok(Some(blob)),
                Err(status) if status.code() == Code::NotFound => return Ok(None),
                Err(status) => return Err(status.into()),
            }
        }
    }

    /// Stores a blob; one that exists gets the labels.
    pub(super) async fn write_blob(&mut self, digest: &str, content: &[u8], labels: Labels) -> Result<()> {
        if content.len() > MAX_BLOB {
            return Err(failed(format!("blob {digest} is too large for containerd")));
        }
        let write = proto::WriteContent {
            action: proto::COMMIT,
            reference: format!("coracle-{}-{digest}", self.lease.as_deref().unwrap_or_default()),
            total: i64::try_from(content.len()).unwrap_or_default(),
            expected: digest.to_owned(),
            data: content.to_vec(),
            labels: labels.clone(),
        };
        let codec = ProstCodec::<_, proto::Written>::default();
        let path = PathAndQuery::from_static("/containerd.services.content.v1.Content/Write");
        self.ready().await?;
        let request = self.request(futures_util::stream::iter([write]));
        let written = match self.grpc.streaming(request, path, codec).await {
            Ok(answers) => {
                let mut answers = answers.into_inner();
                loop {
                    match answers.message().await {
                        Ok(Some(_)) => {}
                        Ok(None) => break Ok(()),
                        Err(status) => break Err(status),
                    }
                }
            }
            Err(status) => Err(status),
        };
        match written {
            Err(status) if status.code() == Code::AlreadyExists => self.label_blob(digest, labels).await,
            written => Ok(written?),
        }
    }

    async fn label_blob(&mut self, digest: &str, labels: Labels) -> Result<()> {
        let paths = labels.keys().map(|label| format!("labels.{label}")).collect();
        let info = proto::ContentInfo { digest: digest.to_owned(), labels };
        let message = proto::UpdateContent { info: Some(info), mask: Some(proto::FieldMask { paths }) };
        Ok(self.call("/containerd.services.content.v1.Content/Update", message).await?)
    }

    // ---- snapshots ----

    /// The labels of an unpacked layer.
    pub(super) async fn snapshot(&mut self, name: &str) -> Result<Option<Labels>> {
        let message = proto::StatSnapshot { snapshotter: SNAPSHOTTER.to_owned(), key: name.to_owned() };
        let found = self.call::<_, proto::SnapshotInfo>("/containerd.services.snapshots.v1.Snapshots/Stat", message);
        match found.await {
            Ok(found) => Ok(found.info.map(|info| info.labels)),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status.into()),
        }
    }

    /// The size of an unpacked layer on disk, bytes.
    pub(super) async fn usage(&mut self, name: &str) -> Result<u64> {
        let message = proto::StatSnapshot { snapshotter: SNAPSHOTTER.to_owned(), key: name.to_owned() };
        let usage: proto::Usage = self.call("/containerd.services.snapshots.v1.Snapshots/Usage", message).await?;
        Ok(u64::try_from(usage.size).unwrap_or_default())
    }

    /// Begins a layer on a parent (none if it is empty), and returns how it would be mounted.
    pub(super) async fn prepare(&mut self, key: &str, parent: &str) -> Result<Vec<proto::Mount>> {
        let message = proto::PrepareSnapshot {
            snapshotter: SNAPSHOTTER.to_owned(),
            key: key.to_owned(),
            parent: parent.to_owned(),
        };
        let made: proto::Mounts = self.call("/containerd.services.snapshots.v1.Snapshots/Prepare", message).await?;
        Ok(made.mounts)
    }

    /// Completes a layer. If another program has created the same one in the meantime, that is as good.
    pub(super) async fn commit(&mut self, key: &str, name: &str, labels: Labels) -> Result<()> {
        let message = proto::CommitSnapshot {
            snapshotter: SNAPSHOTTER.to_owned(),
            name: name.to_owned(),
            key: key.to_owned(),
            labels,
        };
        match self.call::<_, ()>("/containerd.services.snapshots.v1.Snapshots/Commit", message).await {
            Err(status) if status.code() == Code::AlreadyExists => {
                self.remove_snapshot(key).await?;
                self.keep_snapshot(name).await
            }
            committed => Ok(committed?),
        }
    }

    /// Discards a layer that was begun.
    pub(super) async fn remove_snapshot(&mut self, key: &str) -> Result<()> {
        let message = proto::StatSnapshot { snapshotter: SNAPSHOTTER.to_owned(), key: key.to_owned() };
        match self.call::<_, ()>("/containerd.services.snapshots.v1.Snapshots/Remove", message).await {
            Err(status) if status.code() == Code::NotFound => Ok(()),
            removed => Ok(removed?),
        }
    }
}

impl From<Status> for Trouble {
    fn from(status: Status) -> Self {
        failed(format!("containerd: {}", status.message()))
    }
}
