// The libraries gorilla/websocket and nhooyr.io/websocket in both roles. What the program does is described in
// programs.py and interop/conversations.py.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/websocket"
	nhooyr "nhooyr.io/websocket"
)

const limit = 1 << 24 // bytes of a message

var settings struct {
	Library, Beat, Reason, Subprotocol, Unauthorized, RetryAfter, URL string
	Text, Subprotocols                                                []string
	Compression                                                       string
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func report(code int, reason string) {
	check(json.NewEncoder(os.Stdout).Encode(map[string]any{"code": code, "reason": reason}))
}

// What differs between the libraries.
type connection interface {
	subprotocol() string
	// Echo every message until the connection ends; `pong` is called when the pong for `ping` was received.
	echo(pong func())
	text(message string)
	ping()
	fragments(texts []string, between func())
	leave(code int, reason string)
}

func converse(peer connection, path string) {
	words := strings.Split(path, "/")
	pong := func() {}
	switch words[1] {
	case "subprotocol":
		peer.text(peer.subprotocol())
	case "fragments":
		peer.fragments(settings.Text, peer.ping)
	case "ping":
		pong = func() { peer.text("pong") }
		peer.ping()
	case "leave":
		code, err := strconv.Atoi(words[2])
		check(err)
		peer.leave(code, settings.Reason)
	}
	peer.echo(pong)
}

// gorilla ----------------------------------------------------------------------------------------------------------

type gorilla struct{ *websocket.Conn }

func (peer gorilla) subprotocol() string { return peer.Subprotocol() }

func (peer gorilla) echo(pong func()) {
	peer.SetPongHandler(func(payload string) error {
		if payload == settings.Beat {
			pong()
		}
		return nil
	})
	for {
		kind, message, err := peer.ReadMessage()
		var closed *websocket.CloseError
		if errors.As(err, &closed) {
			report(closed.Code, closed.Text)
			peer.Close()
			return
		}
		check(err)
		check(peer.WriteMessage(kind, message))
	}
}

func (peer gorilla) text(message string) {
	check(peer.WriteMessage(websocket.TextMessage, []byte(message)))
}

func (peer gorilla) ping() {
	check(peer.WriteControl(websocket.PingMessage, []byte(settings.Beat), time.Now().Add(time.Second)))
}

// It sends a frame whenever its buffer is full, and none before.
func (peer gorilla) fragments(texts []string, between func()) {
	writer, err := peer.NextWriter(websocket.TextMessage)
	check(err)
	for index, part := range texts {
		_, err = writer.Write([]byte(part))
		check(err)
		if index == 0 {
			between()
		}
	}
	check(writer.Close())
}

func (peer gorilla) leave(code int, reason string) {
	said := websocket.FormatCloseMessage(code, reason)
	check(peer.WriteControl(websocket.CloseMessage, said, time.Now().Add(time.Second)))
}

func gorillaServe(writer http.ResponseWriter, request *http.Request) {
	upgrader := websocket.Upgrader{
		Subprotocols:      []string{settings.Subprotocol},
		EnableCompression: settings.Compression != "",
		WriteBufferSize:   1024,
	}
	peer, err := upgrader.Upgrade(writer, request, nil)
	check(err)
	converse(gorilla{peer}, request.URL.Path)
}

func gorillaConnect() connection {
	dialer := websocket.Dialer{
		Subprotocols:      settings.Subprotocols,
		EnableCompression: settings.Compression != "",
		WriteBufferSize:   1024,
	}
	peer, _, err := dialer.Dial(settings.URL, nil)
	check(err)
	return gorilla{peer}
}

// nhooyr -----------------------------------------------------------------------------------------------------------

type nhooyrs struct {
	*nhooyr.Conn
	left *int // the code with which this side closed
	beat chan error
}

var background = context.Background()

func nhooyrPeer(peer *nhooyr.Conn) connection {
	peer.SetReadLimit(limit)
	return nhooyrs{peer, new(int), make(chan error, 1)}
}

func (peer nhooyrs) subprotocol() string { return peer.Subprotocol() }

func (peer nhooyrs) echo(pong func()) {
	go func() {
		if <-peer.beat == nil {
			pong()
		}
	}()
	for {
		kind, message, err := peer.Read(background)
		if *peer.left != 0 {
			return
		}
		var closed nhooyr.CloseError
		if errors.As(err, &closed) {
			report(int(closed.Code), closed.Reason)
			return
		}
		check(err)
		check(peer.Write(background, kind, message))
	}
}

func (peer nhooyrs) text(message string) {
	check(peer.Write(background, nhooyr.MessageText, []byte(message)))
}

// It chooses the payload itself, and waits for the pong, which arrives while someone reads.
func (peer nhooyrs) ping() {
	go func() { peer.beat <- peer.Ping(background) }()
}

func (peer nhooyrs) fragments(texts []string, between func()) {
	writer, err := peer.Writer(background, nhooyr.MessageText)
	check(err)
	for index, part := range texts {
		_, err = io.WriteString(writer, part)
		check(err)
		if index == 0 {
			between()
		}
	}
	check(writer.Close())
}

// It waits for the answer, and returns no error if that has a code.
func (peer nhooyrs) leave(code int, reason string) {
	*peer.left = code
	check(peer.Close(nhooyr.StatusCode(code), reason))
	report(code, "")
}

func nhooyrCompression() nhooyr.CompressionMode {
	switch settings.Compression {
	case "takeover":
		return nhooyr.CompressionContextTakeover
	case "no takeover":
		return nhooyr.CompressionNoContextTakeover
	}
	return nhooyr.CompressionDisabled
}

func nhooyrServe(writer http.ResponseWriter, request *http.Request) {
	peer, err := nhooyr.Accept(writer, request, &nhooyr.AcceptOptions{
		Subprotocols:         []string{settings.Subprotocol},
		CompressionMode:      nhooyrCompression(),
		CompressionThreshold: 1,
	})
	if err == nil { // if not, it has answered
		converse(nhooyrPeer(peer), request.URL.Path)
	}
}

func nhooyrConnect() connection {
	peer, _, err := nhooyr.Dial(background, settings.URL, &nhooyr.DialOptions{
		Subprotocols:         settings.Subprotocols,
		CompressionMode:      nhooyrCompression(),
		CompressionThreshold: 1,
	})
	check(err)
	return nhooyrPeer(peer)
}

// ------------------------------------------------------------------------------------------------------------------

func serve(writer http.ResponseWriter, request *http.Request) {
	switch request.URL.Path {
	case "/unauthorized":
		writer.Header().Set("Content-Type", "text/plain")
		writer.WriteHeader(401)
		io.WriteString(writer, settings.Unauthorized)
		return
	case "/busy":
		writer.Header().Set("Retry-After", settings.RetryAfter)
		writer.WriteHeader(503)
		return
	}
	if settings.Library == "gorilla" {
		gorillaServe(writer, request)
	} else {
		nhooyrServe(writer, request)
	}
}

func main() {
	check(json.Unmarshal([]byte(os.Args[1]), &settings))
	if settings.URL == "" {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		check(err)
		fmt.Println(listener.Addr().(*net.TCPAddr).Port)
		check(http.Serve(listener, http.HandlerFunc(serve)))
		return
	}
	fmt.Println("null")
	address, err := url.Parse(settings.URL)
	check(err)
	peer := gorillaConnect
	if settings.Library == "nhooyr" {
		peer = nhooyrConnect
	}
	converse(peer(), address.Path)
}
