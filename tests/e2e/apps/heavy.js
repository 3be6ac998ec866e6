// What a page asks of a browser. Each function resolves to what became of it.
"use strict";

window.heavy = {
    // `count` fetches, `width` at a time; which ports of the client's they came from.
    async fetches(count, width) {
        const ports = new Set(), versions = new Set();
        let next = 0, failed = 0;
        async function work() {
            while (next < count) {
                try {
                    const answer = await (await fetch(`/small/${next++}`)).json();
                    ports.add(answer.port);
                    versions.add(answer.version);
                } catch {
                    failed += 1;
                }
            }
        }
        await Promise.all(Array.from({ length: width }, work));
        return { failed, ports: ports.size, versions: [...versions] };
    },

    // Scroll through the page, a screen each frame, until every image has come.
    async images() {
        const images = [...document.images];
        for (let top = 0; top < document.documentElement.scrollHeight; top += innerHeight) {
            scrollTo(0, top);
            await new Promise((resolve) => setTimeout(resolve, 16));
        }
        for (const image of images) image.loading = "eager";
        await Promise.all(images.map((image) => image.complete ||
            new Promise((resolve) => { image.onload = image.onerror = resolve; })));
        return images.filter((image) => image.naturalWidth).length;
    },

    // Fetches that are given up once the server works on `width` of them, until it was `count`.
    async cancelled(count, width) {
        let given_up = 0;
        while (given_up < count) {
            const controller = new AbortController();
            const { signal } = controller;
            const fetches = Array.from({ length: width }, (_, number) =>
                fetch(`/endless/${given_up + number}`, { signal }).catch((error) => error.name));
            while (await (await fetch("/waiting")).json() < width);
            controller.abort();
            const names = await Promise.all(fetches);
            given_up += names.filter((name) => name === "AbortError").length;
            while (await (await fetch("/waiting")).json() > 0);
        }
        return given_up;
    },

    // Load a page of `images` in a frame again and again, each time when the first image has come;
    // how many came of the last.
    async storm(loads, images) {
        const frame = document.body.appendChild(document.createElement("iframe"));
        const begun = (search) => {
            const { contentDocument: page, contentWindow: { location } } = frame;
            return location.search === search && [...page.images].some((image) => image.complete);
        };
        for (let load = 0; load < loads; load += 1) {
            const search = `?images=${images}&load=${load}`;
            frame.src = "/gallery" + search;
            while (!begun(search)) await new Promise((resolve) => setTimeout(resolve, 1));
        }
        const { contentDocument: page, contentWindow } = frame;
        if (page.readyState !== "complete")
            await new Promise((resolve) => { contentWindow.onload = resolve; });
        return [...page.images].filter((image) => image.naturalWidth).length;
    },

    // WebSockets that are open at the same time, and how many messages came back.
    async websockets(count, messages) {
        const url = location.origin.replace("https", "wss") + "/ws/echo";
        let echoes = 0;
        const sockets = Array.from({ length: count }, () => new WebSocket(url));
        await Promise.all(sockets.map((socket) => new Promise((resolve, reject) => {
            socket.onopen = resolve;
            socket.onerror = reject;
        })));
        await Promise.all(sockets.map((socket) => new Promise((resolve) => {
            let left = messages;
            socket.onmessage = () => {
                echoes += 1;
                left -= 1;
                if (left) socket.send("x"); else socket.close();
            };
            socket.onclose = resolve;
            socket.send("x");
        })));
        return echoes;
    },

    // Downloads that are given up after the first part that comes of each.
    async abandoned(count) {
        const parts = await Promise.all(Array.from({ length: count }, async () => {
            const reader = (await fetch("/bytes/1073741824")).body.getReader();
            const part = (await reader.read()).value.length;
            await reader.cancel();
            return part;
        }));
        return parts.filter((part) => part > 0).length;
    },
};
