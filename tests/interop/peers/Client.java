// The client of java.net.http: sends messages of each kind, closes, and prints one line for each event.

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.WebSocket;
import java.nio.ByteBuffer;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.TimeUnit;

class Client implements WebSocket.Listener {
    private final BlockingQueue<String> seen = new ArrayBlockingQueue<>(100);
    private final StringBuilder text = new StringBuilder();
    private int received = 0;

    @Override
    public CompletionStage<?> onText(WebSocket peer, CharSequence part, boolean last) {
        text.append(part);
        if (last) {
            seen.add("text " + (text.length() < 100 ? text : text.length() + " " + text.toString().hashCode()));
            text.setLength(0);
        }
        peer.request(1);
        return null;
    }

    @Override
    public CompletionStage<?> onBinary(WebSocket peer, ByteBuffer part, boolean last) {
        received += part.remaining();
        if (last) {
            seen.add("binary " + received);
            received = 0;
        }
        peer.request(1);
        return null;
    }

    @Override
    public CompletionStage<?> onPing(WebSocket peer, ByteBuffer payload) {
        seen.add("ping " + payload.remaining());
        peer.request(1);
        return null; // the client sends the pong itself
    }

    @Override
    public CompletionStage<?> onPong(WebSocket peer, ByteBuffer payload) {
        seen.add("pong " + payload.remaining());
        peer.request(1);
        return null;
    }

    @Override
    public CompletionStage<?> onClose(WebSocket peer, int code, String reason) {
        seen.add("close " + code + " " + reason);
        return null;
    }

    @Override
    public void onError(WebSocket peer, Throwable error) {
        seen.add("error " + error);
    }

    private String next() throws InterruptedException {
        String line = seen.poll(10, TimeUnit.SECONDS);
        System.out.println(line);
        return line;
    }

    public static void main(String[] arguments) throws Exception {
        URI url = URI.create(arguments[0]);
        Client client = new Client();
        WebSocket peer = HttpClient.newHttpClient().newWebSocketBuilder().buildAsync(url, client).get();
        if (url.getPath().equals("/echo")) {
            peer.sendText("", true).get();
            client.next();
            peer.sendText("gr\u00fc\u00df dich, ", false).get();
            peer.sendText("\ud83c\udf0d", true).get();
            client.next();
            peer.sendText("\u00fc1".repeat(1 << 18), true).get();
            client.next();
            peer.sendBinary(ByteBuffer.allocate(1 << 20), true).get();
            client.next();
            peer.sendPing(ByteBuffer.allocate(3)).get();
            client.next();
            peer.sendClose(4001, "done").get();
        }
        String line;
        do {
            line = client.next();
        } while (line != null && !line.startsWith("close") && !line.startsWith("error"));
        System.exit(0); // without waiting for the threads of the HttpClient
    }
}
