//! A GET over a connection of the container's network; of the answer the head is read, and no more of that than
//! [`MOST`].

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::attempt::Miss;
use super::tcp;
use crate::container::slot::ContainerSlot;
use crate::probe::Http;
use crate::probe::http::{MOST, status};

/// # Errors
/// Why it was no success.
pub(super) async fn get(container: &ContainerSlot, http: &Http) -> Result<(), Miss> {
    let mut stream = tcp::connect(container, http.address).await?;
    let broken = |error: std::io::Error| Miss::Failed(format!("the connection broke: {error}"));
    stream.write_all(&http.request()).await.map_err(broken)?;
    let (mut answer, mut piece) = (Vec::new(), [0; 1024]);
    while answer.len() < MOST {
        let read = stream.read(&mut piece).await.map_err(broken)?;
        let piece = piece.get(..read).unwrap_or_default();
        answer.extend_from_slice(piece);
        if read == 0 {
            return Err(Miss::Failed("the connection was closed before there was an answer".into()));
        }
        // It ends with a line, so that nobody makes us read it again and again for a byte more.
        if piece.contains(&b'\n')
            && let Some(status) = status(&answer).map_err(Miss::Failed)?
        {
            return http.judge(status).map_err(Miss::Failed);
        }
    }
    Err(Miss::Failed(format!("the answer has a head of more than {MOST} bytes")))
}
