use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Request, Response, StatusCode};
use kube::client::Body;
use serde_json::Value;
use tower_test::mock::{self, Handle};

use super::*;
use crate::artifacts::encode;

type Server = Handle<Request<Body>, Response<Body>>;

fn cluster() -> (KubeCluster, Server) {
    let (service, handle) = mock::pair::<Request<Body>, Response<Body>>();
    let client = Client::new(service, "team");
    (KubeCluster::new(client, "team".into(), "pw-fix-1-1".into()), handle)
}

fn answer(status: StatusCode, body: &Value) -> Response<Body> {
    Response::builder().status(status).body(Body::from(body.to_string().into_bytes())).unwrap()
}

async fn fails(server: &mut Server, code: u16) {
    let (_, send) = server.next_request().await.unwrap();
    let body = json!({ "kind": "Status", "status": "Failure", "code": code, "reason": "x", "message": "x" });
    send.send_response(answer(StatusCode::from_u16(code).unwrap(), &body));
}

#[tokio::test]
async fn filling_is_one_server_side_apply_of_the_data_alone() {
    let (cluster, mut server) = cluster();
    let artifact = encode(b"the patch").unwrap();
    let scenario = async {
        let (request, send) = server.next_request().await.unwrap();
        assert_eq!(request.method(), Method::PATCH);
        assert_eq!(request.uri().path(), "/api/v1/namespaces/team/configmaps/fix-1-patch");
        assert!(request.uri().query().unwrap().contains("fieldManager=podwright-agent"));
        assert_eq!(request.headers()["content-type"], "application/apply-patch+yaml");
        let body = request.into_body().collect_bytes().await.unwrap();
        let wanted = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": "fix-1-patch" },
            "binaryData": { "patch.zst": STANDARD.encode(&artifact.data) },
        });
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), wanted);
        send.send_response(answer(StatusCode::OK, &wanted));
    };
    let (reference, ()) = tokio::join!(cluster.put_artifact("fix-1-patch", "patch.zst", &artifact), scenario);
    let reference = reference.unwrap();
    assert_eq!((reference.sha256, reference.bytes), (artifact.sha256.clone(), 9));
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_tried_again_and_what_stays_is_not() {
    let (cluster, mut server) = cluster();
    let artifact = encode(b"x").unwrap();
    let scenario = async {
        // The first 403 comes while the API servers may still learn of the Role, the second one later.
        for code in [503, 409, 429, 403, 403] {
            fails(&mut server, code).await;
        }
    };
    let (result, ()) = tokio::join!(cluster.put_artifact("fix-1-patch", "patch.zst", &artifact), scenario);
    assert!(matches!(result, Err(ClusterError::Refused { code: 403, .. })), "{result:?}");
}

#[tokio::test(start_paused = true)]
async fn trying_ends() {
    let (cluster, mut server) = cluster();
    let artifact = encode(b"x").unwrap();
    let scenario = async {
        for _ in 0..=BACKOFF.len() {
            fails(&mut server, 500).await;
        }
    };
    let (result, ()) = tokio::join!(cluster.put_artifact("fix-1-patch", "patch.zst", &artifact), scenario);
    assert!(matches!(result, Err(ClusterError::Unreachable { .. })), "{result:?}");
}
