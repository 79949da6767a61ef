// The echo of Node's ws: echo_ws.js PORT NODE_MODULES [deflate]
const [port, modules, deflate] = process.argv.slice(2);
const { WebSocketServer } = require(modules + "/ws");

const server = new WebSocketServer({ host: "127.0.0.1", port: Number(port), perMessageDeflate: deflate === "deflate" && { threshold: 0 } });
server.on("connection", (socket) => {
  socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
  socket.on("error", () => {});
});
