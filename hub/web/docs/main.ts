// The API reference: a renderer from npm, pointed at the document that the hub itself serves.
import SwaggerUI from 'swagger-ui-dist/swagger-ui-es-bundle.js';
import 'swagger-ui-dist/swagger-ui.css';
import './docs.css';

SwaggerUI({
  url: '/openapi.json',
  domNode: document.getElementById('reference'),
  // Its default is to send the document's address to a checker on another host.
  validatorUrl: null,
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  docExpansion: 'list',
  tryItOutEnabled: false,
  // The page's cookie is enough to try a call; it is never sent anywhere but to this hub.
  withCredentials: true,
});
