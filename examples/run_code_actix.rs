//! The same as `run_code_axum` on actix-web.
//!
//! `cargo run --release --features actix-web --example run_code_actix`

use std::time::Duration;

use actix_web::error::{ErrorInternalServerError, ErrorTooManyRequests, ErrorUnprocessableEntity};
use actix_web::web::{Bytes, Data, Query, resource};
use actix_web::{App, HttpResponse, HttpServer};
use futures_util::{StreamExt, stream};
use orangery::{ContainerHandle, Error, ErrorKind, Sandbox, Supervisor};

#[derive(serde::Deserialize)]
struct Limits {
    seconds: Option<u64>,
}

async fn run(supervisor: Data<Supervisor>, limits: Query<Limits>, source: Bytes) -> actix_web::Result<HttpResponse> {
    let wall = Duration::from_secs(limits.seconds.unwrap_or(10));
    let sandbox = Sandbox::builder().file("/in/main.sh", source).wall(wall).build().map_err(refused)?;
    let container = supervisor.command("sh").arg("/in/main.sh").sandbox(&sandbox).spawn().await.map_err(refused)?;
    let output = container.output().bytes().lossy().map(|chunk| chunk.map_err(std::io::Error::from));
    Ok(HttpResponse::Ok().streaming(output.chain(stream::once(report(container)))))
}

fn refused(error: Error) -> actix_web::Error {
    match error.kind() {
        ErrorKind::Invalid => ErrorUnprocessableEntity(error),
        ErrorKind::Exhausted => ErrorTooManyRequests(error),
        _ => ErrorInternalServerError(error),
    }
}

async fn report(container: ContainerHandle) -> std::io::Result<Bytes> {
    let report = container.wait().await.map_err(std::io::Error::other)?;
    Ok(format!("{}\n", serde_json::to_string(&*report)?).into())
}

#[actix_web::main]
async fn main() -> anyhow::Result<()> {
    let supervisor = Supervisor::new()?;
    let data = Data::new(supervisor.clone());
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".into());
    let server = HttpServer::new(move || App::new().app_data(data.clone()).service(resource("/").post(run)));
    // Otherwise a client that is gone is taken for one that has only said its last word, until the next byte for it.
    let server = server.h1_allow_half_closed(false).workers(1).bind(address)?;
    for address in server.addrs() {
        println!("listening on {address}");
    }
    server.run().await?;
    supervisor.shutdown().await;
    Ok(())
}
