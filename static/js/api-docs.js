// @ts-check
/** The API's document in Swagger UI; what is tried out goes with the session and its CSRF token. */

const place = /** @type {HTMLElement} */ (document.getElementById("api-docs"));

/** Swagger UI goes dark by a class, our pages by an attribute or by the system. */
const system = matchMedia("(prefers-color-scheme: dark)");
function follow() {
  const root = document.documentElement;
  root.classList.toggle("dark-mode", root.dataset.theme === "dark" || (root.dataset.theme !== "light" && system.matches));
}
follow();
system.addEventListener("change", follow);
new MutationObserver(follow).observe(document.documentElement, { attributeFilter: ["data-theme"] });

/** @param {{method?: string, headers: Record<string, string>}} request */
function withToken(request) {
  if (request.method && request.method !== "GET") request.headers["X-CSRFToken"] = place.dataset.csrf ?? "";
  return request;
}

// @ts-ignore: a global of the bundle
SwaggerUIBundle({
  url: place.dataset.schema,
  domNode: place,
  // @ts-ignore
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  deepLinking: true,
  requestInterceptor: withToken,
  // Its validator is a service elsewhere.
  validatorUrl: null,
});
