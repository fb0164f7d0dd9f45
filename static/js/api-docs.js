// @ts-check
/** The API's document in Swagger UI; what is tried out goes with the session and its CSRF token. */

const place = /** @type {HTMLElement} */ (document.getElementById("api-docs"));

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
