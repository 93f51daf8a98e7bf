//! A joiner that does as the test says, honest or not.

use std::net::SocketAddr;

use anyhow::Context as _;
use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Uri};
use weft_api::JoinToken;
use weft_api::join::join_service_client::JoinServiceClient;
use weft_api::join::{
    JoinRequest, JoinResponse, LeaveRequest, ProxyType, RenewRequest, ReturnRequest, Workload,
};

use super::{Presented, XdsStream, dial};

/// A key, and a request for a certificate that asks for names of the joiner's choice.
#[derive(Debug)]
pub struct NewKey {
    pkcs8: Vec<u8>,
    csr: Vec<u8>,
}

impl NewKey {
    /// A request that claims nothing.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn plain() -> anyhow::Result<Self> {
        let key = rcgen::KeyPair::generate()?;
        let csr = rcgen::CertificateParams::default().serialize_request(&key)?.der().to_vec();
        Ok(Self { pkcs8: key.serialize_der(), csr })
    }

    /// A request that claims a SPIFFE identity and a DNS name.
    ///
    /// # Errors
    /// When the claims cannot be written into a request.
    pub fn claiming(spiffe: &str, dns: &str) -> anyhow::Result<Self> {
        let key = rcgen::KeyPair::generate()?;
        let mut params = rcgen::CertificateParams::new(vec![dns.to_owned()])?;
        params.subject_alt_names.push(rcgen::SanType::URI(spiffe.try_into()?));
        let csr = params.serialize_request(&key)?.der().to_vec();
        Ok(Self { pkcs8: key.serialize_der(), csr })
    }

    /// The request, PKCS #10.
    #[must_use]
    pub fn csr(&self) -> &[u8] {
        &self.csr
    }
}

/// What a join gave.
#[derive(Clone, Debug)]
pub struct Joined {
    /// The answer.
    pub answer: JoinResponse,
    /// Certificate and key.
    pub presented: Presented,
}

impl Joined {
    /// `NAMESPACE/WORKLOAD`.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}/{}", self.answer.namespace, self.answer.workload)
    }

    /// A connection of its own.
    #[must_use]
    pub fn channel(&self, address: SocketAddr) -> Channel {
        channel(address, Some(&self.presented))
    }

    /// A discovery stream as the workload that it is.
    ///
    /// # Errors
    /// When the stream is refused at once.
    pub async fn stream(&self, address: SocketAddr) -> Result<XdsStream, Status> {
        XdsStream::open(self.channel(address), &self.id()).await
    }

    /// A new certificate for a new key; this one goes on to be what it is.
    ///
    /// # Errors
    /// [`Status`] when the control plane refuses.
    pub async fn renew(&self, address: SocketAddr) -> anyhow::Result<Self> {
        let key = NewKey::plain()?;
        let request = RenewRequest { csr_der: key.csr.clone() };
        let renewed = JoinServiceClient::new(self.channel(address)).renew(request).await?.into_inner();
        let chain = renewed.certificate_chain_der.into_iter().map(CertificateDer::from).collect();
        Ok(Self { answer: self.answer.clone(), presented: Presented::new(chain, key.pkcs8) })
    }

    /// Says goodbye.
    ///
    /// # Errors
    /// When the control plane refuses.
    pub async fn leave(&self, address: SocketAddr) -> Result<(), Status> {
        JoinServiceClient::new(self.channel(address)).leave(LeaveRequest {}).await.map(|_| ())
    }

    /// Takes the goodbye back.
    ///
    /// # Errors
    /// When the control plane refuses.
    pub async fn come_back(&self, address: SocketAddr) -> Result<(), Status> {
        JoinServiceClient::new(self.channel(address)).r#return(ReturnRequest::default()).await.map(|_| ())
    }
}

/// A workload as joiners describe themselves.
#[must_use]
pub fn described(name: &str, address: std::net::Ipv4Addr) -> Workload {
    Workload {
        name: name.to_owned(),
        address: address.to_string(),
        proxy_type: ProxyType::Weft.into(),
        inbound: format!("{address}:15006"),
        outbound: format!("{address}:15001"),
        ..Workload::default()
    }
}

/// Joins with a token.
///
/// # Errors
/// [`Status`] when the control plane refuses.
pub async fn join(token: &str, key: &NewKey, workload: Workload) -> anyhow::Result<Joined> {
    let answer = join_with(&token.parse()?, key.csr.clone(), workload).await?;
    let chain = answer.certificate_chain_der.iter().cloned().map(CertificateDer::from).collect();
    let presented = Presented::new(chain, key.pkcs8.clone());
    Ok(Joined { answer, presented })
}

/// Joins with any bytes as the certificate request.
///
/// # Errors
/// [`Status`] when the control plane refuses.
pub async fn join_with(
    token: &JoinToken,
    csr_der: Vec<u8>,
    workload: Workload,
) -> anyhow::Result<JoinResponse> {
    let address = token.control_planes.to_string().parse().context("the token names no IP:PORT")?;
    let request = JoinRequest {
        token_id: token.id.clone(),
        secret: token.secret.to_vec(),
        csr_der,
        workload: Some(workload),
    };
    Ok(JoinServiceClient::new(channel(address, None)).join(request).await?.into_inner())
}

/// A gRPC channel to the control plane that shows a certificate, or none.
#[must_use]
pub fn channel(address: SocketAddr, presented: Option<&Presented>) -> Channel {
    let presented = presented.cloned();
    let connector = tower::service_fn(move |_: Uri| {
        let presented = presented.clone();
        async move {
            let stream = dial(address, "localhost", b"h2", presented.as_ref()).await;
            stream.map(TokioIo::new).map_err(std::io::Error::other)
        }
    });
    Endpoint::from_static("http://control-plane").connect_with_connector_lazy(connector)
}
